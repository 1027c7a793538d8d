"""Makes pages of docs/, which are written to be read in the repository too, into pages of the site. mdBook calls it.

Links to files that are no pages become text; pictures become part of the page, so that they follow its theme; a page with a line
`<!-- the page is ../FILE -->` becomes that file; labels of code blocks, which tests read, go.
"""

import json
import pathlib
import posixpath
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

# Files outside of docs/ by the page that stands for them, and headings of the README by the page that says the same.
STAND_INS = {
    "README.md#refusals": "troubleshooting.md",
    "README.md#metrics-and-records": "logs.md",
    "README.md": "index.md",
    "deploy/README.md": "deploy.md",
    "SECURITY.md": "vulnerabilities.md",
    "CHANGELOG.md": "changes.md",
    "docs/reference.yaml": "reference.md",
}
IS_PAGE = re.compile(r"<!-- the page is (\S+) -->\n?")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
PICTURE = re.compile(r"!\[([^\]]*)\]\((pictures/[\w-]+\.svg)\)")


def target(link, folder, pages):
    """What a link of a file in `folder` is on the site; None where there is no such page."""
    if "://" in link or link.startswith(("#", "mailto:")):
        return link
    path, _, heading = link.partition("#")
    file = posixpath.normpath(posixpath.join(folder, path))
    for name in (f"{file}#{heading}", file):
        if name in STAND_INS:
            rest = heading if name == file and heading else ""
            return STAND_INS[name] + (f"#{rest}" if rest else "")
    inside = posixpath.relpath(file, "docs")
    if inside in pages or (not inside.startswith("..") and not inside.endswith(".md") and (DOCS / inside).is_file()):
        return inside + (f"#{heading}" if heading else "")
    return None


def picture(name, said):
    """The picture itself, in the colour of the text: a style for readers of the file alone is left out."""
    svg = (DOCS / name).read_text()
    svg = re.sub(r"<style>.*?</style>|<\?xml.*?\?>", "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{said}" ', 1)
    # A blank line would end the HTML for Markdown.
    return f'<div class="picture">{" ".join(svg.split())}</div>'


def page(text, folder, pages):
    out, fenced = [], False
    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            if fenced:
                # What stands behind the language is for tests.
                line = re.sub(r"```(\w*).*", r"```\1", line)
            out.append(line)
            continue
        if not fenced:
            line = PICTURE.sub(lambda found: picture(found[2], found[1]), line)

            def rewrite(found):
                to = target(found[3], folder, pages)
                return f"{found[1]}[{found[2]}]({to})" if to else found[2]

            line = LINK.sub(rewrite, line)
        out.append(line)
    return "\n".join(out)


def content(text, pages):
    folder = "docs"
    if stands_for := IS_PAGE.search(text):
        file = posixpath.normpath(posixpath.join("docs", stands_for[1]))
        whole = (ROOT / file).read_text()
        if file.endswith(".md"):
            text, folder = whole, posixpath.dirname(file)
        else:
            text = text.split("\n", 1)[0] + f"\n\n```yaml\n{whole}```\n"
    return page(text, folder, pages)


def chapters(items):
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def main():
    # mdBook asks first whether its renderer is known here; any is.
    if len(sys.argv) > 1 and sys.argv[1] == "supports":
        return
    _, book = json.load(sys.stdin)
    found = list(chapters(book.get("items") or book.get("sections")))
    pages = {chapter["path"] for chapter in found if chapter["path"]}
    for chapter in found:
        if chapter["path"]:
            chapter["content"] = content(chapter["content"], pages)
    json.dump(book, sys.stdout)


main()
