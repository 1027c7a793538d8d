"""Uses every artefact of `make packages` as those who get it will: test.py BINARY PACKAGES WORK. Needs root, for chroot.

WORK keeps what was fetched: a clean Debian, made by mmdebstrap, and a validator of CycloneDX. Not shown here, because nothing boots: the
unit under a running systemd, and that the package's script asks it whether a gateway runs.
"""

import base64
import contextlib
import gzip
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time

BINARY, PACKAGES, WORK = (pathlib.Path(argument).resolve() for argument in sys.argv[1:4])
HERE = pathlib.Path(__file__).resolve().parent
passed = 0


def run(*command, fails=False, **options):
    options = {"timeout": 600, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}, **options}
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if (done.returncode != 0) != fails:
        raise SystemExit(f"FAILED {' '.join(str(part) for part in command)}: {done.returncode}\n{done.stdout}")
    return done.stdout


def holds(what, true, detail=""):
    global passed
    if not true:
        raise SystemExit(f"FAILED {what}\n{detail}")
    passed += 1
    print(f"ok: {what}", flush=True)


def wait_for(what, condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.1)
    raise SystemExit(f"FAILED waited {seconds} s for: {what}")


def one(pattern):
    found = list(PACKAGES.glob(pattern))
    assert len(found) == 1, (pattern, found)
    return found[0]


def request(port, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@contextlib.contextmanager
def running(*command, **options):
    process = subprocess.Popen([str(part) for part in command], **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                raise SystemExit(f"FAILED {command} does not end") from None


def check_sums():
    print(run("sha256sum", "--check", "SHA256SUMS", cwd=PACKAGES))
    sums = (PACKAGES / "SHA256SUMS").read_text()
    holds("every artefact is in SHA256SUMS and is as it says", all(file.name in sums for file in PACKAGES.iterdir() if file.name != "SHA256SUMS"))
    again = WORK / "again"
    run(sys.executable, HERE / "build.py", BINARY, again, env={**os.environ, "LC_ALL": "C", "TZ": "Asia/Tokyo"})
    holds("a second run, elsewhere and with another time zone, gives the same bytes", (again / "SHA256SUMS").read_text() == sums, (again / "SHA256SUMS").read_text())
    shutil.rmtree(again)


def check_bill():
    venv = WORK / "venv"
    if not venv.exists():
        run(sys.executable, "-m", "venv", venv)
        run(venv / "bin/pip", "install", "--quiet", "cyclonedx-python-lib[json-validation]==11.12.0")
    script = "import sys\nfrom cyclonedx.validation.json import JsonStrictValidator\nfrom cyclonedx.schema import SchemaVersion\n"
    script += "fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())\nsys.exit(repr(fault)[:2000] if fault else 0)\n"
    bill = one("*.cdx.json")
    run(venv / "bin/python", "-c", script, bill)
    document = json.loads(bill.read_text())
    names = {entry["name"] for entry in document["components"]}
    holds(f"the bill of materials is valid CycloneDX 1.6 with {len(names)} libraries", {"pingora", "tokio", "rusqlite"} <= names and "criterion" not in names)
    holds("each has a version, a checksum and a licence", all({"version", "hashes", "licenses"} <= entry.keys() for entry in document["components"] if not entry["name"].startswith("scopegate")))
    digest = document["metadata"]["component"]["hashes"][0]["content"]
    holds("it is of this program", digest == hashlib.sha256(BINARY.read_bytes()).hexdigest())


def clean_root():
    """A fresh Debian of bookworm with systemd, so that the package is installed as on a machine, and nothing of this one."""
    packed = WORK / "debian.tar"
    if not packed.exists():
        run("mmdebstrap", "--quiet", "--variant=minbase", "--include=systemd,logrotate,ca-certificates", "bookworm", packed)
    root = WORK / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    run("tar", "--extract", "--file", packed, "--directory", root, "--exclude=./dev/*")
    # No /dev, no /proc: scripts that need them would need them on a machine that is being installed too; /dev/null is.
    run("mknod", "--mode=666", root / "dev/null", "c", "1", "3")
    run("mknod", "--mode=666", root / "dev/urandom", "c", "1", "9")
    return root


def check_debian(root):
    package = one("*.deb")
    shutil.copy(package, root / "package.deb")

    def inside(*command, **options):
        return run("chroot", root, *command, **options)

    inside("dpkg", "--install", "/package.deb")
    holds("dpkg installs it in a clean Debian", "install ok installed" in inside("dpkg", "--status", "scopegate"))
    holds("what is installed is what was packed", inside("dpkg", "--verify", "scopegate") == "")
    owner = inside("id", "scopegate")
    holds("the user is there", "scopegate" in owner, owner)
    mode = inside("stat", "--format=%A %U:%G", "/etc/scopegate", "/etc/scopegate/clients").split("\n")[:2]
    holds("the configuration is read by the group alone", mode == ["drwxr-s--- root:scopegate"] * 2, mode)
    holds("the program says its version", inside("scopegate", "--version").startswith("scopegate "))
    as_gateway = ["setpriv", "--reuid=scopegate", "--regid=scopegate", "--init-groups"]
    inside(*as_gateway, "scopegate", "check", "--config", "/etc/scopegate/gateway.yaml")
    holds("the configuration that comes with it loads, for the gateway's user", True)
    listed = run("bash", "-c", f"source {root}/usr/share/bash-completion/completions/scopegate; complete -p scopegate")
    holds("a shell completes its commands", "_scopegate" in listed, listed)
    page = run("man", "--warnings", "--local-file", root / "usr/share/man/man1/scopegate.1.gz", env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"})
    holds("the manual has every command, without a warning", all(f"{name}" in page for name in ["serve", "client rotate-secret", "store restore"]) and "warning" not in page.split("NAME")[0], page[:500])

    unit = "/usr/lib/systemd/system/scopegate.service"
    said = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={root}", "scopegate.service")
    of_ours = [line for line in said.splitlines() if "scopegate" in line]
    holds("systemd-analyze verify has nothing to say of the unit", not of_ours, said)
    rating = run("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=25", root / unit.lstrip("/")).strip().splitlines()[-1]
    holds(f"systemd-analyze security: {rating}", "OK" in rating)
    inside("systemctl", "enable", "scopegate")
    holds("systemctl enable finds it", (root / "etc/systemd/system/multi-user.target.wants/scopegate.service").is_symlink())

    walk(root, inside, as_gateway)
    rotation(root, inside, as_gateway)

    handover(root, inside, as_gateway)

    changed = root / "etc/scopegate/gateway.yaml"
    changed.write_text(changed.read_text() + "\n# ours\n")
    inside("dpkg", "--force-confold", "--install", "/package.deb")
    holds("an installation over it keeps what was changed", changed.read_text().endswith("# ours\n"))
    (root / "var/lib/scopegate/data").mkdir(parents=True, exist_ok=True)
    inside("dpkg", "--remove", "scopegate")
    holds("a removal keeps the configuration and the store", changed.exists() and (root / "var/lib/scopegate/data").exists() and not (root / "usr/bin/scopegate").exists())
    inside("dpkg", "--purge", "scopegate")
    holds("a purge leaves nothing but the user", not (root / "etc/scopegate").exists() and not (root / "var/lib/scopegate").exists())
    said = run("lintian", "--allow-root", "--fail-on=error", package)
    holds("lintian finds no error", True)
    print(said)


def serve(as_gateway, root, **options):
    """As the unit starts it: its user, its folder, its command."""
    state = root / "var/lib/scopegate"
    command = ["chroot", root, *as_gateway, "env", "-C", "/var/lib/scopegate", "scopegate", "serve", "--config", "/etc/scopegate/gateway.yaml"]
    state.mkdir(mode=0o700, exist_ok=True)
    run("chroot", root, "chown", "scopegate:scopegate", "/var/lib/scopegate")
    return running(*command, stdout=subprocess.DEVNULL, stderr=(WORK / "gateway.log").open("a"), **options)


def issue(secret):
    basic = base64.b64encode(f"nightly:{secret}".encode()).decode()
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Basic {basic}"}
    status, body = request(8080, "POST", "/oauth2/token", "grant_type=client_credentials", **kind)
    assert status == 200, body
    return json.loads(body)["access_token"]


def walk(root, inside, as_gateway):
    """From the installed package to a protected API, by the clock; what a person does is a client and a start."""
    began = time.monotonic()
    files = WORK / "api"
    (files / "shop/orders").mkdir(parents=True, exist_ok=True)
    (files / "shop/orders/7").write_text("order 7\n")
    with running(sys.executable, "-m", "http.server", "9000", "--bind", "127.0.0.1", "--directory", files, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        said = inside("scopegate", "client", "add", "nightly", "--scopes", "orders_read", "--config", "/etc/scopegate/gateway.yaml", "--format", "json")
        secret = json.loads(said[said.index("{") :])["secret"]
        inside(*as_gateway, "scopegate", "check", "--config", "/etc/scopegate/gateway.yaml")
        with serve(as_gateway, root):
            wait_for("the gateway is ready", lambda: request(9091, "GET", "/readyz")[0] == 200)
            bearer = {"Authorization": f"Bearer {issue(secret)}"}
            wait_for("the API answers", lambda: request(8080, "GET", "/shop/orders/7", **bearer) == (200, "order 7\n"), 10)
            holds("a call with the token reaches the API", True)
            holds("one without it does not", request(8080, "GET", "/shop/orders/7")[0] == 401)
            holds("nor another operation", request(8080, "DELETE", "/shop/orders/7", **bearer)[0] == 405)
    took = time.monotonic() - began
    holds(f"from the installed package to a protected API in {took:.1f} s", took < 120)
    (root / "secret").write_text(secret)


def rotation(root, inside, as_gateway):
    """logrotate with the file of the package, while records are written."""
    settings = root / "etc/logrotate.d/scopegate"
    inside("logrotate", "--debug", "/etc/logrotate.d/scopegate")
    holds("logrotate reads its file", True)
    config = root / "etc/scopegate/gateway.yaml"
    before = config.read_text()
    config.write_text(before + "\ndecision_log: { file: decisions.jsonl }\n")
    counts, stop = [], threading.Event()

    def caller():
        connection, count = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10), 0
        while not stop.is_set():
            connection.request("GET", "/shop/orders/7")
            connection.getresponse().read()
            count += 1
        connection.close()
        counts.append(count)

    with serve(as_gateway, root) as process:
        wait_for("the gateway is ready", lambda: request(9091, "GET", "/readyz")[0] == 200)
        # chroot and setpriv become the program, so this is the process that the unit's signal reaches. There is no systemd to send it.
        text = settings.read_text()
        signalled = text.replace("systemctl kill --kill-who=main --signal=SIGUSR1 scopegate.service 2>/dev/null || true", f"kill -USR1 {process.pid}")
        assert signalled != text
        settings.write_text(signalled)
        callers = [threading.Thread(target=caller) for _ in range(4)]
        for one_of in callers:
            one_of.start()
        rotations = 6
        for _ in range(rotations):
            time.sleep(1)
            inside("logrotate", "--force", "--state", "/logrotate.state", "/etc/logrotate.d/scopegate")
        time.sleep(1)
        stop.set()
        for one_of in callers:
            one_of.join()
        settings.write_text(text)
        process.send_signal(signal.SIGTERM)
        process.wait(40)
    config.write_text(before)
    logs = sorted((root / "var/lib/scopegate").glob("decisions.jsonl*"))
    records, torn = 0, 0
    for log in logs:
        data = gzip.decompress(log.read_bytes()) if log.suffix == ".gz" else log.read_bytes()
        for line in data.splitlines():
            try:
                records += json.loads(line)["path" if "path" in json.loads(line) else "resource"] is not None
            except ValueError:
                torn += 1
    asked = sum(counts)
    holds(f"{rotations} rotations under {asked} requests lose and tear no record", (records, torn, len(logs)) == (asked, 0, rotations + 1), (records, torn, asked, [log.name for log in logs]))
    mode = (root / "var/lib/scopegate/decisions.jsonl").stat().st_mode & 0o777
    holds("the new file is for the gateway alone", mode == 0o600, oct(mode))


def handover(root, inside, as_gateway):
    """The package is installed over a running gateway, and the command of its script hands the sockets over. There is no systemd to
    ask whether one runs, so the command is called here."""
    script = (HERE / "debian/postinst").read_text()
    command = "cd /var/lib/scopegate && runuser -u scopegate -- scopegate upgrade --config /etc/scopegate/gateway.yaml"
    assert command in script
    # The successor is what stands where the program was started from, which only /proc says.
    run("mount", "--types", "proc", "proc", root / "proc")
    answers, stop, successor = [], threading.Event(), None

    def caller():
        while not stop.is_set():
            try:
                answers.append(request(8080, "GET", "/shop/orders/7")[0])
            except OSError as error:
                answers.append(repr(error))

    try:
        with serve(as_gateway, root) as process:
            wait_for("the gateway is ready", lambda: request(9091, "GET", "/readyz")[0] == 200)
            callers = [threading.Thread(target=caller) for _ in range(4)]
            for one_of in callers:
                one_of.start()
            time.sleep(0.5)
            before = (root / "usr/bin/scopegate").stat().st_ino
            inside("dpkg", "--install", "/package.deb")
            holds("dpkg puts another file in the place of a running program", (root / "usr/bin/scopegate").stat().st_ino != before and process.poll() is None)
            said = inside("sh", "-c", command)
            successor = int(re.search(r"\b(\d{2,})\b", said.replace(str(process.pid), "")).group(1))
            process.wait(40)
            time.sleep(0.5)
            stop.set()
            for one_of in callers:
                one_of.join()
            holds("the successor serves", request(9091, "GET", "/readyz")[0] == 200, said)
            holds(f"none of {len(answers)} requests failed meanwhile", len(answers) > 100 and set(answers) == {401}, set(answers))
    finally:
        stop.set()
        if successor:
            os.kill(successor, signal.SIGTERM)
            wait_for("the successor ends", lambda: not pathlib.Path(f"/proc/{successor}").exists() or "Z" in pathlib.Path(f"/proc/{successor}/stat").read_text().split()[2])
        run("umount", root / "proc")


def check_tarball():
    folder = WORK / "tarball"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run("tar", "--extract", "--gzip", "--file", next(file for file in PACKAGES.glob("*.tar.gz") if "debug" not in file.name), "--directory", folder)
    inner = next(folder.iterdir())
    run(inner / "scopegate", "check", "--config", inner / "config/gateway.yaml", cwd=inner)
    holds("the tarball has a program and a configuration that it loads", True)


def unpacked(archive, root):
    """The image's files, layer over layer, and its settings; each digest is looked at on the way."""
    layout = WORK / "layout"
    shutil.rmtree(layout, ignore_errors=True)
    with tarfile.open(archive) as packed:
        packed.extractall(layout, filter="data")

    def blob(descriptor):
        kind, digest = descriptor["digest"].split(":")
        contents = (layout / "blobs" / kind / digest).read_bytes()
        holds(f"blob {digest[:12]} is what its name and its size say", (hashlib.sha256(contents).hexdigest(), len(contents)) == (digest, descriptor["size"]))
        return layout / "blobs" / kind / digest

    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]).read_text())
    settings = json.loads(blob(manifest["config"]).read_text())
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for layer, plain in zip(manifest["layers"], settings["rootfs"]["diff_ids"], strict=True):
        path = blob(layer)
        holds("its layer, unpacked, is the one that the settings name", f"sha256:{hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()}" == plain)
        run("tar", "--extract", "--gzip", "--numeric-owner", "--file", path, "--directory", root)
    return settings["config"]


def check_image():
    archive, root = one("*-oci.tar"), WORK / "image"
    settings = unpacked(archive, root)
    holds("the image has no shell", not (root / "bin/sh").exists() and not (root / "usr/bin/sh").exists())
    # As an orchestrator mounts it.
    etc = root / "etc/scopegate"
    shutil.copytree(HERE / "etc", etc, dirs_exist_ok=True)
    environment = dict(setting.split("=", 1) for setting in settings["Env"])

    def enter():
        """What a runtime does with the settings of the image, apart from namespaces."""
        os.chroot(root)
        os.chdir(settings["WorkingDir"])
        user, group = map(int, settings["User"].split(":"))
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)

    said = run(*settings["Entrypoint"], "check", env=environment, preexec_fn=enter)
    holds("the program in the image loads a configuration, by the image's own libraries", "ok:" in said, said)
    # As a pod has it: nothing can be written but the volume. chroot begins in `/`, so the path of the store is written out.
    config = etc / "gateway.yaml"
    config.write_text(config.read_text().replace("path: data", f"path: {settings['WorkingDir']}/data"))
    mounts = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && mount -t tmpfs -o uid=10001,gid=10001,mode=700 tmpfs "$1/var/lib/scopegate"'
    script = f'{mounts} && root=$1 && shift && exec chroot --userspec={settings["User"]} "$root" "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", root, *settings["Entrypoint"], *settings["Cmd"]]
    environment["PATH"] = os.environ["PATH"]
    with running(*command, env=environment, stdout=subprocess.DEVNULL, stderr=(WORK / "gateway.log").open("a")) as process:
        wait_for("the image's gateway is ready", lambda: request(9091, "GET", "/readyz")[0] == 200)
        holds("the image, unpacked, serves on a root that is read-only", request(8080, "GET", "/shop/orders/7")[0] == 401)
        lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        holds("as its own user, without a capability", status["Uid"].split()[0] == "10001" and int(status["CapEff"], 16) == 0, status)
        volume = pathlib.Path(f"/proc/{process.pid}/root/var/lib/scopegate/data")
        holds("and writes where the volume is", volume.stat().st_uid == 10001)
    seen = json.loads(run("skopeo", "inspect", f"oci-archive:{archive}"))
    holds("skopeo reads it", seen["Os"] == "linux" and len(seen["Layers"]) == 2)
    run("skopeo", "copy", "--quiet", "--insecure-policy", f"oci-archive:{archive}", f"docker-archive:{WORK}/docker.tar:scopegate:test")
    (WORK / "docker.tar").unlink()
    holds("skopeo makes an archive for docker load of it", True)
    bundle = WORK / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    tag = json.loads((WORK / "layout/index.json").read_text())["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
    run("umoci", "unpack", "--image", f"{WORK}/layout:{tag}", bundle)
    process = json.loads((bundle / "config.json").read_text())["process"]
    holds("umoci makes a bundle of it, with the image's user and command", process["user"]["uid"] == 10001 and process["args"][-1] == "serve", process)



WORK.mkdir(parents=True, exist_ok=True)
check_sums()
check_bill()
check_tarball()
check_image()
check_debian(clean_root())
print(f"{passed} passed, 0 failed")
