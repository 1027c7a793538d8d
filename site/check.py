"""Holds the site of docs/ against what readers rely on: check.py SITE BINARY.

Every configuration of the how-to pages loads and its tests pass; every reason has its section; links lead somewhere; nothing is loaded from
elsewhere; the search works from files alone, in a real browser.
"""

import html.parser
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse

import commands

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SITE, BINARY = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
passed = 0

# Pages whose blocks are whole configurations. Those of other pages are parts, which tests of their own load.
WHOLE = ["start", "existing-api", "identity-provider", "several-gateways", "rotation"]
WHOLE += ["from-nginx", "from-oauth2-proxy", "from-kong", "from-apigee", "from-servicenow"]


def holds(what, true, detail=""):
    global passed
    if not true:
        sys.exit(f"FAILED {what}\n{detail}")
    passed += 1
    print(f"ok: {what}")


def check_configurations(page):
    """A block `yaml gateway` begins a configuration; `yaml policies`, `clients` and `users` after it belong to it."""
    text = (DOCS / f"{page}.md").read_text()
    sets = []
    for kind, block in re.findall(r"^```yaml (\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if kind == "gateway":
            sets.append({})
        sets[-1].setdefault(kind, block)
    assert sets and len(re.findall(r"^```yaml", text, re.MULTILINE)) == sum(map(len, sets)), f"{page}: a block of no kind, or one twice"
    for number, files in enumerate(sets, 1):
        with tempfile.TemporaryDirectory() as root:
            folder = pathlib.Path(root)
            (folder / "gateway.yaml").write_text(files["gateway"])
            (folder / "policies.yaml").write_text(files["policies"])
            if "clients: clients.yaml" in files["gateway"]:
                (folder / "clients.yaml").write_text(files["clients"])
            else:
                (folder / "clients").mkdir()
                (folder / "clients/all.yaml").write_text(files.get("clients", "clients: {}\n"))
            if "users" in files:
                (folder / "users.yaml").write_text(files["users"])
            (folder / "secrets").mkdir()
            for secret in re.findall(r"file:secrets/(\w+)", files["gateway"]):
                (folder / "secrets" / secret).write_text("redis://localhost:6379" if secret == "redis" else "0" * 64)
            for command in ["check", "test"] if "\ntests:" in files["policies"] else ["check"]:
                done = subprocess.run([BINARY, command, "--config", "gateway.yaml"], cwd=folder, capture_output=True, text=True, timeout=60)
                holds(f"{page}, configuration {number}: scopegate {command}", done.returncode == 0, done.stdout + done.stderr)


class Page(html.parser.HTMLParser):
    """Links, loaded files and anchors of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loaded, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag in ("img", "script", "iframe") and given.get("src"):
            self.loaded.append(given["src"])
        elif tag == "link" and given.get("href"):
            self.loaded.append(given["href"])


def check_links():
    pages = {file: Page(file.read_text()) for file in SITE.glob("*.html") if file.name not in ("toc.html", "print.html", "404.html")}
    holds("every page of docs/ is in the table of contents", {file.stem for file in DOCS.glob("*.md")} - {"SUMMARY"} <= {file.stem for file in pages}, "")
    broken, followed = [], 0
    for file, page in pages.items():
        for loaded in page.loaded:
            if "://" in loaded or loaded.startswith("//"):
                broken.append(f"{file.name} loads {loaded}")
            elif not (SITE / urllib.parse.unquote(loaded.split("?")[0])).exists():
                broken.append(f"{file.name}: no {loaded}")
        for link in page.links:
            if "://" in link or link.startswith("mailto:"):
                continue
            path, _, heading = urllib.parse.unquote(link).partition("#")
            to = SITE / path if path else file
            followed += 1
            if not to.is_file() or (heading and to in pages and heading not in pages[to].ids):
                broken.append(f"{file.name}: {link}")
    holds(f"{followed} links lead somewhere, and nothing is loaded from elsewhere", not broken and followed > 300, "\n".join(broken))


def check_reasons():
    listed = re.findall(r"^\| `([\w.]+)` \|", (ROOT / "tests/golden/refusals.md").read_text(), re.MULTILINE)
    sections = re.findall(r"^### ([\w.]+)$", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    kinds = (ROOT / "src/reason.rs").read_text().split("TokenFault {")[1].split("\n    }")[0]
    faults = set(re.findall(r'= "(\w+)"', kinds))
    explained = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE))))
    holds(f"each of {len(faults)} faults of tokens has its row", len(faults) > 10 and faults <= explained, faults - explained)
    holds(f"each of {len(listed)} reasons has its section", len(listed) > 30 and set(listed) == set(sections), set(listed) ^ set(sections))


def check_commands():
    holds("docs/commands.md is what the program says", (DOCS / "commands.md").read_text() == commands.page(BINARY), "`make commands BINARY=…` writes it")


def check_search():
    browser = shutil.which("chromium") or sys.exit("FAILED `chromium` is missing; install it: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND"]
        command += ["--virtual-time-budget=20000", "--dump-dom", f"file://{SITE}/index.html?search=refresh_grace"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    found = re.findall(r'<li[^>]*><a href="(?:[^"]*/)?([\w-]+)\.html\?highlight', done.stdout)
    holds(f"the search finds {len(found)} places without a server and without a network", "configuration" in found, done.stdout[-3000:])


for name in WHOLE:
    check_configurations(name)
check_reasons()
check_commands()
check_links()
check_search()
print(f"{passed} passed, 0 failed")
