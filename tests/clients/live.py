"""A WebSocket of a script in headless Chromium, which can put its token among the subprotocols alone.

LIVE is the URL of an API with `token_in_protocol`, whose server selects the last protocol it is offered and sends every message back.
"""

import http.server
import threading

from chromium import start
from steps import expect, ok, run, setting

LIVE = setting("LIVE")
TOKEN = setting("TOKEN")
DRIVER = start()
DRIVER.set_script_timeout(120)


class Page(http.server.BaseHTTPRequestHandler):
    """An empty page of another origin on loopback: one of no address may not reach a local one."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


PAGES = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=PAGES.serve_forever, daemon=True).start()
DRIVER.get(f"http://127.0.0.1:{PAGES.server_port}/")

OPEN = """
const [url, protocols, done] = arguments;
const socket = new WebSocket(url, protocols);
socket.onopen = () => socket.send('hello');
socket.onmessage = (message) => { done([socket.protocol, message.data]); socket.close(); };
socket.onerror = () => done(null);
"""


def opened(protocols):
    """The protocol that the browser took for selected, and what came back; None where it did not open."""
    return DRIVER.execute_async_script(OPEN, LIVE, protocols)


def token_alone():
    seen = opened(["bearer", TOKEN])
    expect(seen == ["bearer", "hello"], f"saw {seen}")
    ok("a socket opens with the token alone")


def token_and_protocols():
    seen = opened(["v1", "bearer", TOKEN, "v2"])
    expect(seen == ["v2", "hello"], f"saw {seen}")
    ok("the protocol that the server selects is the socket's")


def no_token():
    for protocols in (["v1"], ["bearer"], ["bearer", "nonsense"], []):
        seen = opened(protocols)
        expect(seen is None, f"with {protocols} saw {seen}")
    ok("no socket opens without a token")


try:
    run([token_alone, token_and_protocols, no_token])
finally:
    DRIVER.quit()
