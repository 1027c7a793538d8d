"""A gateway on loopback takes ConfigMaps and Secrets as the kubelet changes them in a running pod, and ends as a pod ends.

`make kubernetes` calls it: reload.py BINARY. The kubelet writes the new files into a folder of their own and then renames one link,
`..data`, onto the old one; names in the mounted folder are links through it. See AtomicWriter in Kubernetes' pkg/volume/util.
"""

import base64
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BINARY = pathlib.Path(sys.argv[1]).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy/kubernetes"
SECRET = "a-secret-of-this-test-alone-0123456789-0123456789"
passed = 0


def holds(what, true, detail=""):
    global passed
    if not true:
        raise SystemExit(f"FAILED {what} {detail}")
    passed += 1
    print(f"ok: {what}")


def wait_for(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise SystemExit(f"FAILED waited {seconds} s for: {what}")


class Mounted:
    """A mounted ConfigMap or Secret."""

    def __init__(self, folder):
        self.folder, self.count = folder, 0
        folder.mkdir(parents=True)

    def write(self, files):
        """As the kubelet's AtomicWriter does it."""
        self.count += 1
        old = os.readlink(self.folder / "..data") if (self.folder / "..data").is_symlink() else None
        new = self.folder / f"..2026_01_01_00_00_00.{self.count:09}"
        new.mkdir()
        for name, text in files.items():
            (new / name).write_text(text)
            (new / name).chmod(0o440)
        (self.folder / "..data_tmp").symlink_to(new.name)
        os.rename(self.folder / "..data_tmp", self.folder / "..data")
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        for entry in self.folder.iterdir():
            if not entry.name.startswith("..") and entry.name not in files:
                entry.unlink()
        if old:
            shutil.rmtree(self.folder / old)


class Api(http.server.BaseHTTPRequestHandler):
    """The API behind the gateway: says which credential it was shown, and takes its time under /shop/orders/slow."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.endswith("/slow"):
            time.sleep(2)
        body = (self.headers.get("Authorization") or "").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def request(port, method, path, headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def main():
    api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    port, metrics = free_port(), free_port()
    with tempfile.TemporaryDirectory() as root:
        base = pathlib.Path(root)
        config, policies, clients, secrets = (Mounted(base / f"etc/scopegate/{name}") for name in ["config", "policies", "clients", "secrets"])
        state = base / "var/lib/scopegate"
        state.mkdir(parents=True)

        # The files of the overlay, with this machine's addresses; the API is shown a credential out of the Secret.
        gateway = (DEPLOY / "overlays/single/config/gateway.yaml").read_text()
        credential = "authorization: { replace: { bearer: file:../secrets/shop } }"
        for old, new in [
            ("https://api.example.com", f"http://127.0.0.1:{port}"),
            ("0.0.0.0:8080", f"127.0.0.1:{port}"),
            ("0.0.0.0:9091", f"127.0.0.1:{metrics}"),
            ('servers: ["http://shop.shop.svc.cluster.local:8080"]', f'servers: ["http://127.0.0.1:{api.server_port}"], {credential}'),
        ]:
            assert old in gateway, old
            gateway = gateway.replace(old, new)
        shop = (DEPLOY / "base/policies/shop.yaml").read_text()
        digest = hashlib.sha256(SECRET.encode()).hexdigest()
        client = f"clients:\n  nightly: {{ grants: [client_credentials], secrets: [{{ sha256: {digest} }}], auth_scopes: [orders_read] }}\n"
        config.write({"gateway.yaml": gateway})
        policies.write({"shop.yaml": shop})
        clients.write({"clients.yaml": client})
        secrets.write({"shop": "first-credential"})

        command = [BINARY, "serve", "--config", config.folder / "gateway.yaml"]
        log = (base / "log").open("w")
        process = subprocess.Popen(command, cwd=state, stdout=subprocess.DEVNULL, stderr=log)
        try:
            drive(process, port, metrics, config, policies, clients, secrets, shop, client)
        except BaseException:
            print((base / "log").read_text()[-4000:])
            raise
        finally:
            if process.poll() is None:
                process.kill()


def drive(process, port, metrics, config, policies, clients, secrets, shop, client):
    def value(name):
        found = re.search(rf"^{name}(?:{{version=\"(\w+)\"}})? (\S+)$", request(metrics, "GET", "/metrics")[1], re.M)
        return (found.group(1) or float(found.group(2))) if found else None

    def version():
        return value("scopegate_config_info")

    def is_ready():
        try:
            return request(metrics, "GET", "/readyz")[0] == 200
        except OSError:
            return False

    wait_for("the gateway is ready", is_ready)
    holds("/healthz answers", request(metrics, "GET", "/healthz")[0] == 200)
    basic = base64.b64encode(f"nightly:{SECRET}".encode()).decode()
    form = {"Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded"}

    def token():
        status, body = request(port, "POST", "/oauth2/token", form, "grant_type=client_credentials")
        return json.loads(body).get("access_token") if status == 200 else None

    bearer = {"Authorization": f"Bearer {token()}"}

    def call(path="/shop/orders/7"):
        return request(port, "GET", path, bearer)

    holds("a call reaches the API with the credential of the Secret", call() == (200, "Bearer first-credential"), call())
    holds("an operation that no policy names is unknown", call("/shop/invoices")[0] == 404)

    first = version()
    policies.write({"shop.yaml": shop.replace("/orders: [GET]", "/orders: [GET]\n      /invoices: [GET]")})
    wait_for("a swapped ConfigMap of policies is in force", lambda: version() != first)
    holds("the operation that it names is served, with the token from before", call("/shop/invoices")[0] == 200)

    second = version()
    checked = subprocess.run([BINARY, "check", "--config", config.folder / "gateway.yaml"], capture_output=True, text=True, timeout=60)
    holds("`scopegate check` on the mounted files names the version in force", f"set {second}" in checked.stdout + checked.stderr, checked)
    policies.write({"shop.yaml": shop})
    wait_for("the old policies are in force again", lambda: version() == first)
    holds("the same files have the same version again", first != second)

    # A file more, and the old one gone: names of links change too.
    policies.write({"orders.yaml": shop})
    wait_for("a ConfigMap with another file name is in force", lambda: version() != first)
    holds("calls go on", call()[0] == 200)

    renamed = version()
    policies.write({"orders.yaml": "apis: { shop: { base_path: 7 } }\n"})
    wait_for("a ConfigMap with a fault is refused", lambda: value("scopegate_config_last_reload_successful") == 0)
    holds("the old one stays in force", version() == renamed and call()[0] == 200)
    policies.write({"orders.yaml": shop})
    wait_for("a mended one is taken", lambda: value("scopegate_config_last_reload_successful") == 1)

    before = value("scopegate_config_last_reload_timestamp_seconds")
    secrets.write({"shop": "second-credential"})
    wait_for("a swapped Secret is in force", lambda: call() == (200, "Bearer second-credential"))
    holds("the version is that of the YAML alone, and the time of the load says that it was taken", version() == renamed and value("scopegate_config_last_reload_timestamp_seconds") >= before)

    clients.write({"clients.yaml": client.replace("grants:", "active: false, grants:")})
    wait_for("a client that was switched off gets no token", lambda: token() is None)
    holds("and its tokens are refused", call()[0] == 401)
    clients.write({"clients.yaml": client})
    wait_for("it is switched on again", lambda: token() is not None)

    # The end of a pod: a request under way, SIGTERM, and requests that arrive before all have heard of it.
    answers = []
    slow = threading.Thread(target=lambda: answers.append(call("/shop/orders/slow")[0]))
    slow.start()
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    wait_for("/readyz says that it drains", lambda: request(metrics, "GET", "/readyz")[1] == "draining\n", 3)
    late = []
    while time.monotonic() - began < 4:
        late.append(call()[0])
        time.sleep(0.1)
    slow.join()
    holds("new connections are served during drain_delay", len(late) > 20 and set(late) == {200}, late)
    holds("the request under way got its answer", answers == [200], answers)
    code = process.wait(45)
    took = time.monotonic() - began
    holds("it ended by itself within the grace period, with 0", code == 0 and 5 <= took < 45, (code, took))
    print(f"{passed} passed, 0 failed")


main()
