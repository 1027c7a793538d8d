"""The bill of materials: CycloneDX 1.6 as JSON, of what cargo says is linked into the program."""

import datetime
import json
import subprocess
import tomllib
import uuid


def linked(metadata):
    """Package ids that the program is linked from, by id, each with those it uses: no dependency of tests or of build scripts alone."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found, open_ = {}, [metadata["resolve"]["root"]]
    while open_:
        at = open_.pop()
        if at in found:
            continue
        uses = [to["pkg"] for to in nodes[at]["deps"] if any(kind["kind"] is None for kind in to["dep_kinds"])]
        found[at] = sorted(uses)
        open_ += uses
    return found


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version'].replace('+', '%2B')}"


def component(package, checksums):
    entry = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
        "scope": "required",
    }
    if package.get("description"):
        entry["description"] = " ".join(package["description"].split())
    if package.get("license"):
        # Some old packages write `MIT/Apache-2.0`, which is no SPDX expression.
        entry["licenses"] = [{"expression": " OR ".join(part.strip() for part in package["license"].split("/"))}]
    if checksum := checksums.get((package["name"], package["version"])):
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository"):
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"].strip()}]
    return entry


def document(root, target, binary_sha256, epoch):
    """The text of the document; `target` is Rust's name for the machine."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)
    lock = tomllib.loads((root / "Cargo.lock").read_text())
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in lock["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    uses = linked(metadata)
    program = packages[metadata["resolve"]["root"]]
    libraries = sorted((packages[id] for id in uses if id != program["id"]), key=purl)
    main = {
        "type": "application",
        "bom-ref": purl(program),
        "name": program["name"],
        "version": program["version"],
        "description": program["description"],
        "purl": purl(program),
        "licenses": [{"expression": program["license"]}],
        "hashes": [{"alg": "SHA-256", "content": binary_sha256}],
    }
    text = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'scopegate:{binary_sha256}')}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": main,
        },
        "components": [component(package, checksums) for package in libraries],
        "dependencies": sorted(
            ({"ref": purl(packages[id]), "dependsOn": sorted({purl(packages[to]) for to in to_ids})} for id, to_ids in uses.items()),
            key=lambda entry: entry["ref"],
        ),
    }
    return json.dumps(text, indent=1, ensure_ascii=False) + "\n"
