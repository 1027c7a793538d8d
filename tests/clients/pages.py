"""The login and consent pages in headless Chromium, as a person uses them on a phone, with screenshots.

AUTHORIZE_URL holds one authorization URL or several (separated by spaces, for other clients): where the server remembers consent,
each step that needs to be asked takes the next one. Their redirect_uri must be on a free port of this machine that browsers may
open (not 1): this program listens there, as the client. SHOTS is the folder for the screenshots.
"""

import http.server
import json
import os
import re
import secrets
import threading
import urllib.parse

from selenium.common.exceptions import TimeoutException, WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from chromium import start
from steps import expect, ok, run, setting

BASE = setting("BASE").rstrip("/")
URLS = setting("AUTHORIZE_URL").split()
USERNAME = setting("USERNAME")
PASSWORD = setting("PASSWORD")
SHOTS = setting("SHOTS")
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
START_AGAIN = re.compile(r"start\b.{0,40}\bagain|start over", re.IGNORECASE | re.DOTALL)


def query(url):
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))


REDIRECT_URI = query(URLS[0])["redirect_uri"]


class Client(http.server.BaseHTTPRequestHandler):
    """The client: what it was called back with, in order."""

    called = []

    def do_GET(self):
        if self.path.startswith(urllib.parse.urlsplit(REDIRECT_URI).path):
            self.called.append(query(self.path))
        body = (b"<!doctype html><html lang=en><meta name=viewport content='width=device-width'><link rel=icon href='data:,'>"
                b"<title>Connected</title><h1>The client was called back</h1>")
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Watch:
    """What the browser did: every request, the status of every document, the console."""

    def __init__(self, driver):
        self.driver = driver
        self.requests = []
        self.documents = []
        self.console = []

    def look(self):
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            parameters = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
                if "redirectResponse" in parameters:
                    self.documents.append((parameters["redirectResponse"]["status"], parameters["redirectResponse"]["url"]))
            elif message["method"] == "Network.responseReceived" and parameters["type"] == "Document":
                answer = parameters["response"]
                self.documents.append((answer["status"], answer["url"]))
        self.console += self.driver.get_log("browser")

    def check(self):
        self.look()
        hosts = {urllib.parse.urlsplit(BASE).netloc, urllib.parse.urlsplit(REDIRECT_URI).netloc}
        for url in self.requests:
            parts = urllib.parse.urlsplit(url)
            expect(parts.scheme not in ("http", "https", "ws", "wss") or parts.netloc in hosts, f"a request went to {url}")
            expect(PASSWORD not in urllib.parse.unquote_plus(url), f"the password is in a URL: {url}")
        for status, url in self.documents:
            expect(status < 500, f"{status} from {url}")
        # Chromium notes every page of status 4xx in the console; that is for `documents`.
        refused = [url for status, url in self.documents if status >= 400]
        for entry in self.console:
            known = entry.get("source") == "network" and any(entry["message"].startswith(url + " ") for url in refused)
            expect(known or entry["level"] not in ("SEVERE", "ERROR", "WARNING"), f"in the console: {entry['message']}")


class Person:
    """What a person sees and does."""

    def __init__(self):
        self.driver = start()
        self.watch = Watch(self.driver)
        self.turn = 0
        self.phone()

    def phone(self, scheme="light"):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def open(self, again=False):
        """Opens an authorization URL with a state of its own, which is given back."""
        if not again:
            self.turn += 1
        url = urllib.parse.urlsplit(URLS[self.turn % len(URLS)])
        state = secrets.token_urlsafe(12)
        parameters = {**dict(urllib.parse.parse_qsl(url.query)), "state": state}
        self.driver.get(urllib.parse.urlunsplit(url._replace(query=urllib.parse.urlencode(parameters))))
        self.loaded()
        return state

    def forget(self):
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})

    def find(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def has(self, css):
        return bool(self.driver.find_elements(By.CSS_SELECTOR, css))

    def button(self, act):
        return self.find(f"button[name=act][value={act}]")

    def token(self):
        return self.find("input[name=form_token]").get_attribute("value")

    def text(self):
        return self.find("body").text

    @property
    def at(self):
        """Where the person is: at the client, or on our login, consent or some other page."""
        url = self.driver.current_url
        if url.split("?")[0] == REDIRECT_URI.split("?")[0]:
            return "client"
        expect(url.startswith(BASE + "/"), f"the browser is at {url}")
        for act, name in (("login", "login"), ("allow", "consent")):
            if self.has(f"button[name=act][value={act}]"):
                return name
        return "page"

    def expect_at(self, *places):
        self.watch.look()
        where = self.at
        if where not in places:
            last = self.watch.console[-1]["message"] if self.watch.console else "nothing"
            expect(False, f"wanted {' or '.join(places)}, got {where}: {self.text()[:300]!r} at {self.driver.current_url}; "
                          f"in the console: {last}")
        return where

    def loaded(self):
        wait = WebDriverWait(self.driver, 120, ignored_exceptions=[WebDriverException])
        wait.until(lambda driver: driver.execute_script("return document.readyState") == "complete")

    def leave(self, action):
        """Does something that leads to another page, and waits for it."""
        root = self.find("html")
        action()

        def gone(_):
            try:
                root.is_enabled()
                return False
            # Stale, or in the middle of the change of pages an error of the inspector.
            except WebDriverException:
                return True

        try:
            WebDriverWait(self.driver, 120).until(gone)
        except TimeoutException:
            self.watch.look()
            expect(False, f"the page stays after a click; in the console: {[entry['message'] for entry in self.watch.console]}")
        self.loaded()

    def press(self, act):
        self.leave(self.button(act).click)

    def login(self, password=PASSWORD):
        field = self.find("input[name=username]")
        field.clear()
        field.send_keys(USERNAME)
        self.find("input[name=password]").send_keys(password)
        self.press("login")

    def consent(self):
        """Comes to a consent page, with login where asked; None where the server does not ask."""
        state = self.open()
        if self.at == "login":
            self.login()
        return state if self.expect_at("consent", "client") == "consent" else None

    def shoot(self, name):
        self.driver.save_screenshot(os.path.join(SHOTS, name))
        with open(os.path.join(SHOTS, name), "rb") as file:
            return file.read()

    def check_page(self):
        """What every page of ours has."""
        look = self.driver.execute_script("""return {
            wide: document.documentElement.scrollWidth - window.innerWidth, language: document.documentElement.lang,
            title: document.title, headings: document.querySelectorAll('h1').length,
            unlabelled: [...document.querySelectorAll('input:not([type=hidden])')].filter(input => !input.labels.length).length,
            small: [...document.querySelectorAll('button')].filter(button => button.getBoundingClientRect().height < 24).length,
            inner: window.innerWidth }""")
        expect(look["inner"] == PHONE["width"], f"no viewport for phones: the page is {look['inner']} wide")
        expect(look["wide"] <= 0, f"the page is {look['wide']} pixels too wide for a phone")
        expect(look["language"] and look["title"] and look["headings"] == 1, f"wants lang, title and one h1: {look}")
        expect(not look["unlabelled"] and not look["small"], f"inputs without label, or buttons too small to hit: {look}")

    def clean_page(self):
        """A page of ours that tells a person what to do."""
        self.check_page()
        expect(START_AGAIN.search(self.text()), f"the page does not say to start again: {self.text()[:300]!r}")


person = None


def called(before):
    """What the client was called back with since `before`."""
    return Client.called[before:]


def login_page():
    person.open()
    person.expect_at("login")
    person.check_page()
    light = person.shoot("login.png")
    person.phone("dark")
    dark = person.shoot("login-dark.png")
    person.phone()
    expect(light != dark, "the login page looks the same in dark")
    expect(not person.find("input[name=password]").get_attribute("value"), "the password field is filled")
    ok("login page")


def wrong_password():
    person.login("not " + PASSWORD)
    person.expect_at("login")
    person.check_page()
    alert = person.find("[role=alert]")
    expect(alert.is_displayed() and alert.text.strip(), "no alert for a wrong password")
    expect(person.find("input[name=username]").get_attribute("value") == USERNAME, "the user name was not kept")
    expect(not person.find("input[name=password]").get_attribute("value"), "the password was sent back")
    person.shoot("wrong-password.png")
    ok(f"wrong password: {alert.text.strip()}")


def consent_page():
    person.login()
    person.expect_at("consent")
    person.check_page()
    expect(person.button("deny").is_displayed(), "no button to deny")
    person.shoot("consent.png")
    ok("consent page")


def deny():
    before = len(Client.called)
    person.press("deny")
    person.expect_at("client")
    back = query(person.driver.current_url)
    expect(back.get("error") == "access_denied" and "code" not in back, f"after Deny: {back}")
    expect(back.get("iss") == BASE and back.get("state"), f"after Deny: {back}")
    expect(called(before) == [back], f"the client was called with {called(before)}")
    ok("deny")


def allow():
    before = len(Client.called)
    state = person.open(again=True)
    if person.at == "login":
        person.login()
    person.expect_at("consent")
    form = person.find("form").get_attribute("action")
    token = person.token()
    person.press("allow")
    person.expect_at("client")
    back = query(person.driver.current_url)
    expect(back.get("code") and back.get("state") == state and back.get("iss") == BASE, f"after Allow: {back}")
    expect(called(before) == [back], f"the client was called with {called(before)}")
    ok("allow")

    person.leave(person.driver.back)
    if person.expect_at("consent", "login", "page", "client") == "consent" and person.token() == token:
        person.press("allow")
        outcome = answered(before)
    else:
        outcome = {"consent": "asked anew", "login": "login anew", "page": "a page", "client": "called back anew"}[person.at]
        if person.at == "page":
            person.check_page()
    ok(f"back after Allow: {outcome}")

    person.open(again=True)
    if person.at == "client":
        person.driver.get(BASE + "/favicon.ico")
    # The same form once more, as from a page that the browser kept.
    person.leave(lambda: person.driver.execute_script("""
        const form = document.createElement('form');
        form.method = 'post'; form.action = arguments[0];
        for (const [name, value] of [['form_token', arguments[1]], ['act', 'allow']]) {
          const input = document.createElement('input');
          input.type = 'hidden'; input.name = name; input.value = value; form.append(input);
        }
        document.documentElement.append(form); form.submit();""", form, token))
    ok(f"the form submitted again: {answered(before, state)}")


def answered(before, state=None):
    """After a used form was submitted again: the client gets a whole answer of its own, or the person a page that helps."""
    where = person.expect_at("client", "page", "login", "consent")
    backs = [back for back in called(before) if state is None or back.get("state") == state]
    expect(all(back.get("code") and back.get("iss") == BASE for back in backs), f"the client was called with {backs}")
    if where == "page":
        person.clean_page()
    return "called back" if where == "client" else where


def two_tabs():
    person.forget()
    first = person.open()
    tabs = [person.driver.current_window_handle]
    person.expect_at("login")
    person.driver.switch_to.new_window("tab")
    person.phone()
    tabs.append(person.driver.current_window_handle)
    second = person.open(again=True)
    person.expect_at("login")
    outcomes = []
    # Login in both, the older one first; then consent in both, the newer one first.
    for tab in tabs:
        person.driver.switch_to.window(tab)
        person.login()
        outcomes.append(person.expect_at("consent", "client", "page"))
        if outcomes[-1] == "page":
            person.clean_page()
    for tab, state in ((tabs[1], second), (tabs[0], first)):
        person.driver.switch_to.window(tab)
        if person.at == "consent":
            person.press("allow")
            outcomes.append(person.expect_at("client", "page"))
        if person.at == "client":
            back = query(person.driver.current_url)
            expect(back.get("code") and back.get("state") == state, f"a tab came back with {back}, its state is {state}")
        else:
            person.clean_page()
    person.driver.switch_to.window(tabs[1])
    person.watch.look()
    person.driver.close()
    person.driver.switch_to.window(tabs[0])
    ok(f"two tabs: {', '.join(outcomes)}")


def double_click():
    state = person.consent()
    if state is None:
        print("skip double click on Allow: the server did not ask", flush=True)
        return
    before = len(Client.called)
    person.leave(lambda: ActionChains(person.driver).double_click(person.button("allow")).perform())
    outcome = one_answer(before, state)
    ok(f"double click on Allow: {outcome}")

    # On a slow network both clicks of a hand send the form, and the browser shows the answer to the second. Here the first goes to
    # another window, so that neither is cancelled.
    state = person.consent()
    if state is None:
        print("skip Allow sent twice: the server did not ask", flush=True)
        return
    before = len(Client.called)
    window = person.driver.current_window_handle
    person.leave(lambda: person.driver.execute_script("""
        const button = document.querySelector('button[name=act][value=allow]');
        button.form.target = 'other'; button.form.requestSubmit(button);
        button.form.target = ''; setTimeout(() => button.form.requestSubmit(button), 100);"""))
    outcome = one_answer(before, state)
    for other in set(person.driver.window_handles) - {window}:
        person.driver.switch_to.window(other)
        person.loaded()
        person.watch.look()
        person.driver.close()
    person.driver.switch_to.window(window)
    ok(f"Allow sent twice at once: {outcome}")


def one_answer(before, state):
    """After a form was sent twice: the client is called back with what belongs to the request, or a page helps."""
    where = person.expect_at("client", "page")
    expect(all(back.get("code") for back in called(before)), f"the client was called with {called(before)}")
    expect(all(back.get("state") == state for back in called(before)), f"the client was called with {called(before)}")
    if where == "client":
        return "connected"
    person.clean_page()
    return "a page that says to start again"


def expired():
    person.forget()
    person.open()
    person.expect_at("login")
    person.forget()
    person.login()
    if person.expect_at("page", "login") == "page":
        person.clean_page()
    ok(f"login on an expired page: {person.at}")

    if person.consent() is None:
        print("skip consent on an expired page: the server did not ask", flush=True)
        return
    before = len(Client.called)
    person.forget()
    person.press("allow")
    person.expect_at("page")
    person.clean_page()
    expect(not called(before), f"the client was called with {called(before)}")
    person.shoot("error.png")
    ok("consent on an expired page")


def connections():
    """The person's own page of what is connected, and an end to one of them."""
    person.driver.get(BASE + "/oauth2/connections")
    if person.driver.find_elements(By.NAME, "password"):
        person.login()
    person.check_page()
    person.shoot("connections.png")
    buttons = person.driver.find_elements(By.CSS_SELECTOR, "button[name=act][value=disconnect]")
    expect(buttons, "nothing is connected")
    person.leave(buttons[0].click)
    left = person.driver.find_elements(By.CSS_SELECTOR, "button[name=act][value=disconnect]")
    expect(len(left) == len(buttons) - 1, f"{len(buttons)} were connected, {len(left)} are after one was ended")
    expect("disconnected" in person.driver.find_element(By.TAG_NAME, "main").text, "it does not say what was done")
    ok(f"connected applications: one of {len(buttons)} disconnected")


def behaviour():
    person.watch.check()
    ok(f"no console errors, no other hosts, no password in a URL, in {len(person.watch.requests)} requests")


def listen():
    """Begins to be the client."""
    os.makedirs(SHOTS, exist_ok=True)
    address = urllib.parse.urlsplit(REDIRECT_URI)
    listener = http.server.ThreadingHTTPServer((address.hostname, address.port), Client)
    threading.Thread(target=listener.serve_forever, daemon=True).start()


def main():
    global person
    listen()
    person = Person()
    try:
        run([login_page, wrong_password, consent_page, deny, allow, two_tabs, double_click, connections, expired, behaviour])
    except SystemExit:
        person.shoot("failed.png")
        raise
    finally:
        person.driver.quit()


if __name__ == "__main__":
    main()
