"""Makes everything that is released out of a built program: build.py BINARY FOLDER.

A Debian package, a tarball, an image, the bill of materials and SHA256SUMS. The same inputs give the same bytes: times are
SOURCE_DATE_EPOCH, or that of the last commit.
"""

import datetime
import email.utils
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import image
import manual
import sbom
from archive import Tree, sha256, zipped

ROOT = pathlib.Path(__file__).resolve().parents[1]
HERE = ROOT / "packaging"
# Who answers for the Debian package.
MAINTAINER = os.environ.get("MAINTAINER", "scopegate maintainers <maintainers@scopegate.example>")
# Where each shell looks for what completes a command.
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/scopegate",
    "zsh": "usr/share/zsh/vendor-completions/_scopegate",
    "fish": "usr/share/fish/vendor_completions.d/scopegate.fish",
}
# Debian's and Rust's name of what an ELF header says.
MACHINES = {62: ("amd64", "x86_64-unknown-linux-gnu"), 183: ("arm64", "aarch64-unknown-linux-gnu")}


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def libc(contents):
    """The oldest C library that has every symbol the program asks for."""
    versions = {tuple(map(int, found.split(b"."))) for found in re.findall(rb"GLIBC_(\d+\.\d+)", contents)}
    return ".".join(map(str, max(versions)))


class Release:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.contents = binary.read_bytes()
        self.version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
        said = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True, timeout=30).stdout.strip()
        if said != f"scopegate {self.version}":
            raise SystemExit(f"{binary} says `{said}`, and Cargo.toml {self.version}")
        self.architecture, self.target = MACHINES[int.from_bytes(self.contents[18:20], "little")]
        self.epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct"))
        self.created = datetime.datetime.fromtimestamp(self.epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.bill = sbom.document(ROOT, self.target, sha256(self.contents), self.epoch)
        self.manual = manual.page(binary, self.version, self.epoch)
        self.completions = {shell: subprocess.run([binary, "completion", shell], check=True, capture_output=True, timeout=30).stdout for shell in COMPLETIONS}
        self.name = f"scopegate-{self.version}-linux-{self.architecture}"

    def write(self, name, contents):
        (self.folder / name).write_bytes(contents)

    def debian_changelog(self):
        day = email.utils.format_datetime(datetime.datetime.fromtimestamp(self.epoch, datetime.UTC))
        return f"scopegate ({self.version}-1) stable; urgency=medium\n\n  * Version {self.version}: changelog.gz.\n\n -- {MAINTAINER}  {day}\n"

    def debian(self):
        tree = Tree()
        tree.file("usr/bin/scopegate", self.contents, 0o755)
        tree.file("usr/lib/systemd/system/scopegate.service", ROOT / "deploy/systemd/scopegate.service")
        tree.file("usr/lib/sysusers.d/scopegate.conf", ROOT / "deploy/systemd/sysusers.conf")
        tree.file("etc/logrotate.d/scopegate", ROOT / "deploy/logrotate/scopegate")
        tree.files("etc/scopegate", HERE / "etc")
        tree.folder("etc/scopegate/clients")
        tree.file("usr/share/man/man1/scopegate.1.gz", zipped(self.manual.encode(), 9))
        for shell, name in COMPLETIONS.items():
            tree.file(name, self.completions[shell])
        doc = "usr/share/doc/scopegate"
        tree.file(f"{doc}/copyright", HERE / "debian/copyright")
        tree.file(f"{doc}/sbom.cdx.json.gz", zipped(self.bill.encode(), 9))
        tree.file(f"{doc}/changelog.gz", zipped((ROOT / "CHANGELOG.md").read_bytes(), 9))
        tree.file(f"{doc}/changelog.Debian.gz", zipped(self.debian_changelog().encode(), 9))
        tree.file("usr/share/lintian/overrides/scopegate", HERE / "debian/lintian-overrides")
        tree.file(f"{doc}/README.md", ROOT / "README.md")
        for page in sorted((ROOT / "docs").glob("*.md")):
            tree.file(f"{doc}/{page.name}", page)
        tree.file(f"{doc}/reference.yaml", ROOT / "docs/reference.yaml")
        tree.files("usr/share/scopegate/prometheus", ROOT / "deploy/prometheus")
        tree.files("usr/share/scopegate/grafana", ROOT / "deploy/grafana")
        size = sum(len(contents or "") for _, _, contents in tree.entries.values())
        settings = sorted(path for path, (_, _, contents) in tree.entries.items() if path.startswith("etc/") and contents is not None)
        tree.file("DEBIAN/conffiles", "".join(f"/{path}\n" for path in settings))
        tree.file(
            "DEBIAN/control",
            f"""Package: scopegate
Version: {self.version}-1
Architecture: {self.architecture}
Maintainer: {MAINTAINER}
Installed-Size: {size // 1024 + 1}
Depends: libc6 (>= {libc(self.contents)}), libgcc-s1 (>= 4.2), systemd | systemd-standalone-sysusers | systemd-sysusers
Recommends: ca-certificates, logrotate
Section: net
Priority: optional
Description: OAuth gateway for REST APIs
 One program in front of existing REST APIs: it issues OAuth 2 tokens, verifies
 every bearer token, decides by policies in YAML who may call what, forwards
 what is allowed, and is scraped by Prometheus.
 .
 After the installation: edit /etc/scopegate, then
 systemctl enable --now scopegate.
""",
        )
        for script in ["postinst", "prerm", "postrm"]:
            tree.file(f"DEBIAN/{script}", HERE / "debian" / script, 0o755)
        sums = [
            f"{hashlib.md5(contents).hexdigest()}  {path}\n"
            for path, (_, _, contents) in sorted(tree.entries.items())
            if contents is not None and not path.startswith(("DEBIAN", "etc"))
        ]
        tree.file("DEBIAN/md5sums", "".join(sums))
        with tempfile.TemporaryDirectory() as root:
            tree.write(root, self.epoch)
            package = self.folder / f"scopegate_{self.version}-1_{self.architecture}.deb"
            # One thread: how xz cuts the data depends on how many there are.
            command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", root, package]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "SOURCE_DATE_EPOCH": str(self.epoch)})

    def tarball(self):
        tree = Tree()
        tree.file("scopegate", self.contents, 0o755)
        tree.file("scopegate.1", self.manual)
        tree.file("sbom.cdx.json", self.bill)
        for file in ["LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md"]:
            tree.file(file, ROOT / file)
        for folder in ["docs", "deploy", "config", "policies"]:
            tree.files(folder, ROOT / folder)
        self.write(f"{self.name}.tar.gz", zipped(tree.tar(self.epoch, f"{self.name}/")))
        # Symbols, for gdb and perf; `make dist` splits them off.
        symbols = self.binary.with_name(f"{self.binary.name}.debug")
        if symbols.is_file():
            tree = Tree()
            tree.file("scopegate.debug", symbols)
            self.write(f"{self.name}-debug.tar.gz", zipped(tree.tar(self.epoch, f"{self.name}/")))

    def image(self):
        extra = {"LICENSE": ROOT / "LICENSE", "sbom.cdx.json": self.bill}
        revision = os.environ.get("REVISION") or git("rev-parse", "HEAD")
        files = image.layout(self.binary, self.version, self.architecture, revision, self.epoch, self.created, extra)
        tree = Tree()
        for path, contents in files.items():
            tree.file(path, contents)
        self.write(f"{self.name}-oci.tar", tree.tar(self.epoch))


def main():
    binary, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    release = Release(binary, folder)
    release.debian()
    release.tarball()
    release.image()
    release.write(f"{release.name}.cdx.json", release.bill.encode())
    sums = "".join(f"{sha256(file.read_bytes())}  {file.name}\n" for file in sorted(folder.iterdir()))
    release.write("SHA256SUMS", sums.encode())
    print(sums, end="")


main()
