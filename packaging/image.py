"""An image of the Open Container Initiative as a layout in a folder, made of files alone: no daemon, no base image, no shell in it."""

import json
import pathlib
import re
import subprocess

from archive import Tree, sha256, zipped

CERTIFICATES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
OWNER = 10001


def libraries(binary):
    """The loader and the shared libraries that the program asks for, by the path that it is looked for at."""
    listed = subprocess.run(["ldd", binary], check=True, capture_output=True, text=True).stdout
    return sorted(set(re.findall(r"(/\S+) \(0x", listed)))


def owners(files):
    """The Debian packages that files come from, with their versions."""
    names = set()
    for file in files:
        # What /lib leads to is known by one of two names.
        for name in [file, str(pathlib.Path(file).resolve()), str(pathlib.Path(file).resolve()).removeprefix("/usr")]:
            found = subprocess.run(["dpkg-query", "--search", name], capture_output=True, text=True)
            if found.returncode == 0:
                names.add(found.stdout.split(":")[0].split(",")[0])
                break
        else:
            raise SystemExit(f"{file} is of no Debian package; build the image on Debian")
    query = ["dpkg-query", "--show", "--showformat=${Package}=${Version}\n", *sorted(names)]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()


def base(binary):
    """What the program needs around it."""
    tree = Tree()
    needed = libraries(binary)
    for library in needed:
        tree.file(library, pathlib.Path(library).resolve(), 0o755)
    tree.file(str(CERTIFICATES), CERTIFICATES)
    packages = owners([*needed])
    for package in packages:
        name = package.split("=")[0]
        tree.file(f"usr/share/doc/{name}/copyright", pathlib.Path(f"/usr/share/doc/{name}/copyright").resolve())
    tree.file("etc/passwd", f"root:x:0:0:root:/:/sbin/nologin\nscopegate:x:{OWNER}:{OWNER}:scopegate:/var/lib/scopegate:/sbin/nologin\n")
    tree.file("etc/group", f"root:x:0:\nscopegate:x:{OWNER}:\n")
    tree.file("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    tree.folder("etc/scopegate", 0o755)
    tree.folder("tmp", 0o1777)
    tree.folder("var")
    tree.folder("var/lib")
    tree.folder("var/lib/scopegate", 0o700, OWNER)
    return tree, packages


def layout(binary, version, architecture, revision, epoch, created, extra):
    """The files of the layout: path to bytes. `extra` goes below /usr/share/doc/scopegate."""
    below, packages = base(binary)
    program = Tree()
    program.file("usr/bin/scopegate", binary, 0o755)
    for name, contents in extra.items():
        program.file(f"usr/share/doc/scopegate/{name}", contents)
    blobs, layers, ids = {}, [], []

    def blob(contents, kind):
        digest = sha256(contents)
        blobs[f"blobs/sha256/{digest}"] = contents
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(contents)}

    for tree in [below, program]:
        plain = tree.tar(epoch)
        ids.append(f"sha256:{sha256(plain)}")
        layers.append(blob(zipped(plain), "application/vnd.oci.image.layer.v1.tar+gzip"))
    labels = {
        "org.opencontainers.image.title": "scopegate",
        "org.opencontainers.image.description": "The gateway that gives any REST API OAuth",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": revision,
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.licenses": "Apache-2.0",
        # For scanners that read no package database.
        "scopegate.packages": " ".join(packages),
    }
    config = {
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": {
            # By number: Kubernetes' runAsNonRoot cannot judge a name.
            "User": f"{OWNER}:{OWNER}",
            "ExposedPorts": {"8080/tcp": {}, "9091/tcp": {}},
            "Env": ["PATH=/usr/bin", f"SSL_CERT_FILE={CERTIFICATES}", "SCOPEGATE_CONFIG=/etc/scopegate/gateway.yaml"],
            "Entrypoint": ["/usr/bin/scopegate"],
            "Cmd": ["serve"],
            "Volumes": {"/var/lib/scopegate": {}},
            "WorkingDir": "/var/lib/scopegate",
            "Labels": labels,
            "StopSignal": "SIGTERM",
        },
        "rootfs": {"type": "layers", "diff_ids": ids},
        "history": [
            {"created": created, "created_by": "the C library and certificates of Debian"},
            {"created": created, "created_by": f"scopegate {version}"},
        ],
    }

    def text(value):
        return json.dumps(value, indent=1, sort_keys=True).encode()

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(text(config), "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
        "annotations": labels,
    }
    named = blob(text(manifest), "application/vnd.oci.image.manifest.v1+json")
    named["platform"] = {"architecture": architecture, "os": "linux"}
    named["annotations"] = {"org.opencontainers.image.ref.name": version}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [named]}
    return {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": text(index), **blobs}
