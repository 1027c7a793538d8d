"""The resource owner's browser: follows an authorization URL through login and consent to the client's redirect URI.

It reads pages the way a browser without JavaScript does: plain forms, one pressed button, cookies, redirects by GET. The last
redirect, to the client, is returned and not requested.
"""

import html.parser
import urllib.parse

import requests

from steps import expect

MOST_PAGES = 12


class Page(html.parser.HTMLParser):
    """The forms, the title and the text of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.forms = []
        self.title = ""
        self.alert = ""
        self.text = []
        self._form = None
        self._select = None
        self._open = []
        self.feed(text)
        self.close()

    VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}

    def handle_starttag(self, tag, attributes):
        attributes = {name: value if value is not None else "" for name, value in attributes}
        if tag not in self.VOID:
            self._open.append((tag, attributes))
        if tag == "form":
            self._form = {"action": attributes.get("action", ""), "method": attributes.get("method", "get").lower(), "fields": [],
                          "buttons": [], "enctype": attributes.get("enctype", "application/x-www-form-urlencoded").lower()}
            self.forms.append(self._form)
        elif self._form is None or "disabled" in attributes:
            return
        elif tag == "button" and attributes.get("type", "submit").lower() == "submit":
            self._form["buttons"].append((attributes.get("name", ""), attributes.get("value", "")))
        elif tag == "input":
            kind = attributes.get("type", "text").lower()
            name = attributes.get("name", "")
            if kind == "submit":
                self._form["buttons"].append((name, attributes.get("value", "")))
            elif kind in ("button", "reset", "image", "file") or not name:
                return
            elif kind not in ("checkbox", "radio"):
                self._form["fields"].append([name, kind, attributes.get("value", "")])
            elif "checked" in attributes:
                self._form["fields"].append([name, kind, attributes.get("value", "on")])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag == "form":
            self._form = None
        while self._open and any(tag == name for name, _ in self._open):
            if self._open.pop()[0] == tag:
                break

    def handle_data(self, data):
        tags = [tag for tag, _ in self._open]
        if "title" in tags:
            self.title += data
        elif not {"style", "script", "head"} & set(tags) and data.strip():
            self.text.append(data.strip())
            if any(attributes.get("role") == "alert" for _, attributes in self._open):
                self.alert += data

    def form(self, act):
        """The form that has the button `act`, if there is one."""
        return next((form for form in self.forms if ("act", act) in form["buttons"]), None)

    def describe(self):
        return f"{self.title.strip()!r}: {' '.join(self.text)[:300]!r}"


class Browser:
    """One browser with its cookies."""

    def __init__(self, redirect_uri):
        self.redirect_uri = redirect_uri
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update({"user-agent": "browser without JavaScript", "accept": "text/html,application/xhtml+xml;q=0.9"})

    def follow(self, method, url, data=None, origin=None):
        """Requests a page and follows redirects: `(None, url)` at the client's redirect URI, else `(page, url)`."""
        home = urllib.parse.urlsplit(url)[:2]
        for _ in range(MOST_PAGES):
            headers = {"origin": origin} if method == "POST" else {}
            answer = self.session.request(method, url, data=data, headers=headers, allow_redirects=False, timeout=30)
            for cookie in self.session.cookies:
                expect(not cookie.secure or home[0] == "https", f"the Secure cookie {cookie.name} never comes back over http")
            if answer.status_code in (301, 302, 303, 307, 308):
                expect(method == "GET" or answer.status_code in (302, 303), f"{answer.status_code} would post the password again")
                expect("location" in answer.headers, f"{answer.status_code} without Location from {url}")
                url = urllib.parse.urljoin(url, answer.headers["location"])
                method, data = "GET", None
                bare = url.split("?")[0].split("#")[0]
                if bare == self.redirect_uri.split("?")[0]:
                    return None, url
                expect(urllib.parse.urlsplit(url)[:2] == home, f"redirected to another host: {url}")
                continue
            kind = answer.headers.get("content-type", "")
            expect(kind.startswith("text/html"), f"{answer.status_code} {kind!r} from {url}, wanted a page: {answer.text[:300]}")
            page = Page(answer.text)
            page.status = answer.status_code
            page.private = answer.headers.get("referrer-policy") == "no-referrer"
            return page, url
        expect(False, f"more than {MOST_PAGES} redirects, last to {url}")

    def press(self, page, url, act, **typed):
        """Submits the form that has the button `act`."""
        form = page.form(act)
        expect(form, f"no button act={act} on {page.describe()}")
        expect(form["method"] == "post", f"the form with act={act} has the method {form['method']}")
        expect(form["enctype"] == "application/x-www-form-urlencoded", f"the form has the enctype {form['enctype']}")
        names = [name for name, _, _ in form["fields"]]
        for name in typed:
            expect(name in names, f"the form has no field {name}, only {names}")
        data = [(name, typed.get(name, value)) for name, _, value in form["fields"]] + [("act", act)]
        target = urllib.parse.urljoin(url, form["action"] or url)
        expect(urllib.parse.urlsplit(target)[:2] == urllib.parse.urlsplit(url)[:2], f"the form goes to another host: {target}")
        # What Chromium sends: a page with Referrer-Policy: no-referrer hides its origin even from itself.
        origin = "null" if page.private else "://".join(urllib.parse.urlsplit(url)[:2])
        return self.follow("POST", target, data, origin)

    def authorize(self, url, username, password, act="allow"):
        """Logs in where asked, presses Allow or Deny, and returns the URL that the client is called back with."""
        page, url = self.follow("GET", url)
        if page is not None and page.form("login"):
            page, url = self.press(page, url, "login", username=username, password=password)
            expect(page is None or not page.form("login"), f"the login was refused: {page and (page.alert or page.describe())}")
        if page is not None:
            expect(page.form(act), f"neither login nor consent, but {page.status} {page.describe()}")
            page, url = self.press(page, url, act)
        expect(page is None, f"wanted the redirect to the client, got {page and page.status} {page and page.describe()}")
        return url
