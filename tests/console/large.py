#!/usr/bin/env python3
"""Pages of the console over a large set: 1,000 APIs, 1,000 clients, 90 days of use.

usage: large.py BINARY [APIS CLIENTS DAYS]

Prints the time of each page at the server, and what a day of use adds to the store. With STRICT=1 it
fails where a page takes more than 300 ms once what is computed for a set is there.
"""

import hashlib
import json
import os
import pathlib
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request

TOKEN = "t" * 43
LIMIT_MS = 300


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def write_set(folder, apis, clients, ports):
    (folder / "clients").mkdir()
    (folder / "policies").mkdir()
    (folder / "gateway.yaml").write_text(
        f"""public_url: http://127.0.0.1:{ports[0]}
listeners: [{{ address: "127.0.0.1:{ports[0]}" }}]
admin: {{ address: "127.0.0.1:{ports[1]}", token: env:ADMIN_TOKEN }}
store: {{ embedded: {{ path: {folder}/data }} }}
policies: policies
clients: clients
decision_log: off
authorization_server: {{ grants: [client_credentials] }}
upstreams: {{ up: {{ servers: ["http://127.0.0.1:9"] }} }}
"""
    )
    lines = ["apis:"]
    for api in range(apis):
        lines.append(
            f"  api{api}: {{ base_path: /api{api}, upstream: up, resources: "
            '{ "/items": [GET, POST], "/items/{id}": [GET, PUT, DELETE] } }'
        )
    lines.append("auth_scopes:")
    for api in range(apis):
        lines.append(f"  read{api}: {{ grants: [{{ api: api{api}, methods: [GET] }}] }}")
        lines.append(f"  write{api}: {{ grants: [{{ api: api{api} }}] }}")
    (folder / "policies" / "all.yaml").write_text("\n".join(lines) + "\n")
    lines = ["clients:"]
    chosen = random.Random(7)
    held = []
    for client in range(clients):
        scopes = sorted({f"{chosen.choice(['read', 'write'])}{chosen.randrange(apis)}" for _ in range(4)})
        held.append(scopes)
        digest = hashlib.sha256(str(client).encode()).hexdigest()
        lines.append(
            f"  client{client}: {{ name: Client {client}, grants: [client_credentials], roles: [r], "
            f"secrets: [{{ sha256: {digest} }}], auth_scopes: {json.dumps(scopes)} }}"
        )
    (folder / "clients" / "all.yaml").write_text("\n".join(lines) + "\n")
    return held


def seed(folder, held, days):
    """Use of every client on every day, by the reading operations of its scopes."""
    today = int(time.time()) // 86400
    database = sqlite3.connect(folder / "data" / "scopegate.db")
    rows = []
    for client, scopes in enumerate(held):
        for scope in scopes:
            api = "api" + scope.lstrip("readwrite")
            for operation in ["GET /items", "GET /items/{id}"]:
                for day in range(today - days + 1, today + 1):
                    rows.append((day, f"client{client}", api, operation, 100, 1, 0, 0))
    database.executemany("INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    database.commit()
    size = database.execute(
        "SELECT sum(pgsize) FROM dbstat WHERE name IN ('usage', 'usage_client')"
    ).fetchone()[0] if has_dbstat(database) else None
    database.close()
    return len(rows), size


def has_dbstat(database):
    try:
        database.execute("SELECT 1 FROM dbstat LIMIT 1")
        return True
    except sqlite3.OperationalError:
        return False


def ask(port, path):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=120) as answer:
        length = len(answer.read())
    return (time.monotonic() - began) * 1000, length


def start(binary, folder, port):
    gateway = subprocess.Popen(
        [binary, "serve", "--config", str(folder / "gateway.yaml")],
        env={**os.environ, "ADMIN_TOKEN": TOKEN},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        try:
            ask(port, "/api/v1/whoami")
            return gateway
        except OSError:
            if gateway.poll() is not None:
                sys.exit("the gateway has ended")
            time.sleep(0.1)
    sys.exit("the gateway does not answer")


def stop(gateway):
    gateway.send_signal(signal.SIGTERM)
    gateway.wait(60)


def main():
    binary = sys.argv[1]
    apis, clients, days = [int(text) for text in sys.argv[2:5]] if len(sys.argv) > 4 else (1000, 1000, 90)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ports = [free_port(), free_port()]
        held = write_set(folder, apis, clients, ports)
        stop(start(binary, folder, ports[1]))
        rows, size = seed(folder, held, days)
        print(f"{apis} APIs, {clients} clients, {rows} counters over {days} days", end="")
        print(f", {size / days / 1024:.0f} KiB a day" if size else "")
        gateway = start(binary, folder, ports[1])
        try:
            first, _ = ask(ports[1], "/api/v1/access")
            print(f"who can reach what, computed once for a set: {first:.0f} ms")
            slow = []
            for path in ["/", "/integrations", "/integrations?sort=calls", "/integrations/client7",
                         "/integrations/new", "/access", "/access?api=api7", "/access?client=client7",
                         "/findings", "/decisions", "/operations", "/usage?client=client7", "/usage",
                         "/audit", "/api/v1/integrations?per_page=500"]:
                times = sorted(ask(ports[1], path)[0] for _ in range(5))
                _, length = ask(ports[1], path)
                print(f"{path:36} {times[2]:7.0f} ms  (most {times[4]:.0f} ms, {length // 1024} KiB)")
                if times[2] > LIMIT_MS:
                    slow.append(path)
            status = pathlib.Path(f"/proc/{gateway.pid}/status").read_text()
            print([line for line in status.splitlines() if line.startswith("VmRSS")][0])
        finally:
            stop(gateway)
    if slow and os.environ.get("STRICT") == "1":
        sys.exit(f"more than {LIMIT_MS} ms: {' '.join(slow)}")


main()
