"""The console in headless Chromium, as administrators use it: every page, light and dark, with axe-core; the forms by keyboard alone.

BASE is the admin listener, GATEWAY the public one. FOLDER has the configuration, with clients in clients/. SHOTS is the folder for the
pictures. The administrators vera (viewer), otto (operator), ada (auditor) and eddi (editor) have the PASSWORD; the client CLIENT_ID may
read orders and has a secret that expired.
"""

import base64
import json
import os
import pathlib
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from chromium import start
from steps import expect, ok, run, setting

BASE = setting("BASE").rstrip("/")
GATEWAY = setting("GATEWAY").rstrip("/")
FOLDER = pathlib.Path(setting("FOLDER"))
SHOTS = pathlib.Path(setting("SHOTS"))
PASSWORD = setting("PASSWORD")
CLIENT, SECRET = setting("CLIENT_ID"), setting("CLIENT_SECRET")
AXE = (pathlib.Path(setting("CLIENTS")) / "node_modules/axe-core/axe.min.js").read_text()
# An address of the network that a policy names.
CALLER = "203.0.113.77"
WAIT = 120

DRIVER = start()
PAGES = {}


def get(url, token=None, form=None, basic=None):
    """A request of a program: status and body."""
    headers = {"X-Forwarded-For": CALLER}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if basic:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(basic).encode()).decode()
    data = urllib.parse.urlencode(form).encode() if form else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=WAIT) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def wait(what, condition):
    """Waits for a condition; its limit is a guard against hanging."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        try:
            value = condition()
        except WebDriverException:
            value = None
        if value:
            return value
        time.sleep(0.05)
    expect(False, f"waited for {what} at {DRIVER.current_url}: {find('body').text[:500]!r}")


def token(client, secret):
    """A token, once the client is in force."""
    def ask():
        status, body = get(f"{GATEWAY}/oauth_token.do", form={"grant_type": "client_credentials"}, basic=(client, secret))
        return status == 200 and json.loads(body)["access_token"]
    return wait(f"a token of {client}", ask)


def find(css):
    return DRIVER.find_element(By.CSS_SELECTOR, css)


def all_of(css):
    return DRIVER.find_elements(By.CSS_SELECTOR, css)


def button(text, within="body"):
    found = [one for one in find(within).find_elements(By.CSS_SELECTOR, "button") if one.text.strip() == text]
    expect(len(found) == 1, f"{len(found)} buttons {text!r} at {DRIVER.current_url}")
    return found[0]


def field(name):
    return find(f"main [name='{name}']:not([type=hidden])")


def loaded():
    wait("the page", lambda: DRIVER.execute_script("return document.readyState") == "complete")


def leave(action):
    """Does something that leads to another page, and waits for it."""
    root = find("html")
    action()

    def gone(_):
        try:
            root.is_enabled()
            return False
        except WebDriverException:
            return True

    WebDriverWait(DRIVER, WAIT).until(gone)
    loaded()


def visit(path):
    DRIVER.get(BASE + path)
    loaded()


def pre(caption):
    """The text of a figure with such a caption."""
    for figure in all_of("figure.pre"):
        if caption in figure.find_element(By.CSS_SELECTOR, "figcaption").text:
            return figure.find_element(By.CSS_SELECTOR, "pre").get_attribute("textContent")
    expect(False, f"no figure {caption!r}: {find('main').text[:500]}")


def scheme(name):
    DRIVER.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": name}]})


def shoot(name):
    DRIVER.save_screenshot(str(SHOTS / name))


def sign_in(name, password=PASSWORD):
    username = find("[name=username]")
    username.clear()
    username.send_keys(name)
    find("[name=password]").send_keys(password)
    leave(button("Sign in").click)


def refused_documents():
    """The documents that were answered with 4xx since the last look, and every request."""
    requests, refused = [], []
    for entry in DRIVER.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        parameters = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            requests.append(parameters["request"]["url"])
        elif message["method"] == "Network.responseReceived" and parameters["response"]["status"] >= 400:
            refused.append(parameters["response"]["url"])
    return requests, refused


def look(expected=()):
    """No fault in the console, no violation of the policy, no request to another host. What is expected to be refused is noted in the
    console too."""
    requests, refused = refused_documents()
    for url in requests:
        expect(url.startswith((BASE + "/", "data:", "about:", "chrome:")), f"a request went to {url}")
        expect(PASSWORD not in urllib.parse.unquote_plus(url), f"the password is in a URL: {url}")
    paths = [urllib.parse.urlsplit(url).path for url in refused]
    expect(sorted(paths) == sorted(expected), f"refused: {paths}, expected: {expected}")
    for entry in DRIVER.get_log("browser"):
        known = entry.get("source") == "network" and any(entry["message"].startswith(url) for url in refused)
        expect(known, f"in the console: {entry['message']}")


def axe():
    """axe-core finds nothing, light and dark; nor is the page wider than a phone."""
    for name in ("light", "dark"):
        scheme(name)
        DRIVER.execute_script(AXE)
        found = DRIVER.execute_async_script("""
            const done = arguments[0];
            axe.run(document, { resultTypes: ['violations', 'incomplete'] }).then(
              found => done({ violations: found.violations.map(one => [one.id, one.impact, one.help, one.nodes.slice(0, 3).map(
                node => node.html.slice(0, 200) + ' ' + node.failureSummary)]), passes: found.passes.length }),
              fault => done({ fault: String(fault) }));""")
        expect("fault" not in found, f"axe: {found}")
        expect(not found["violations"], f"axe at {DRIVER.current_url}, {name}: {json.dumps(found['violations'], indent=1)}")
        expect(found["passes"] >= 10, f"axe looked at {found['passes']} things")
    scheme("light")


def phone():
    """Nothing but tables, which scroll in themselves, is wider than a phone."""
    DRIVER.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True})
    wide = DRIVER.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    DRIVER.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    expect(wide <= 0, f"{DRIVER.current_url} is {wide} pixels too wide for a phone")


def check_page(heading=None):
    look()
    facts = DRIVER.execute_script("""return { title: document.title, language: document.documentElement.lang,
        headings: document.querySelectorAll('h1').length, heading: document.querySelector('h1').textContent,
        scripts: document.querySelectorAll('script:not([src]), [style], [onclick], [onload]').length }""")
    expect(facts["title"] and facts["language"] == "en" and facts["headings"] == 1, f"wants title, lang and one h1: {facts}")
    expect(not facts["scripts"], f"scripts or styles in the page: {facts}")
    expect(heading is None or heading in facts["heading"], f"wants {heading!r}: {facts}")
    axe()
    phone()
    look()


def active():
    """What has the focus: its tag, name, value or text."""
    return DRIVER.execute_script("""const at = document.activeElement;
        return [at.tagName, at.name || '', at.type === 'submit' || at.tagName === 'A' ? at.textContent.trim() : '', at.type || ''];""")


def press(*keys):
    ActionChains(DRIVER).send_keys(*keys).perform()


def tab_to(wanted):
    """Goes on by the tabulator until something has the focus, which can be seen."""
    for _ in range(200):
        press(Keys.TAB)
        if wanted(active()):
            shown = DRIVER.execute_script("""const style = getComputedStyle(document.activeElement);
                return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 || style.boxShadow !== 'none';""")
            expect(shown, f"the focus on {active()} cannot be seen")
            return
    expect(False, f"the tabulator does not lead there; it is on {active()}")


def wrong_password():
    DRIVER.set_window_size(1280, 900)
    visit("/findings")
    expect(urllib.parse.urlsplit(DRIVER.current_url).path == "/sign-in", DRIVER.current_url)
    check_page("Console")
    sign_in("vera", "not " + PASSWORD)
    look(["/sign-in"])
    alert = find("[role=alert]")
    expect(alert.is_displayed() and "wrong" in alert.text, alert.text)
    expect(find("[name=username]").get_attribute("value") == "vera", "the name was not kept")
    expect(not find("[name=password]").get_attribute("value"), "the password was sent back")
    axe()
    ok("wrong password")


def signing_in():
    sign_in("vera")
    expect(DRIVER.current_url == BASE + "/findings", f"signed in, at {DRIVER.current_url}")
    cookies = DRIVER.get_cookies()
    expect(len(cookies) == 1 and cookies[0]["httpOnly"] and cookies[0]["sameSite"] == "Strict", str(cookies))
    expect(DRIVER.execute_script("return document.cookie") == "", "a script reads the cookie")
    look()
    # A viewer: nothing to do there, and no audit.
    expect(not [one for one in all_of("main form[method=post]")], "a viewer has something to do")
    visit("/audit")
    look(["/audit"])
    leave(button("Sign out").click)
    visit("/sign-in")
    sign_in("eddi")
    expect(DRIVER.current_url == BASE + "/", DRIVER.current_url)
    look()
    ok("signing in")


def rows(caption):
    for table in all_of("table"):
        if table.find_element(By.CSS_SELECTOR, "caption").text.startswith(caption):
            return [row.text for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")]
    expect(False, f"no table {caption!r} at {DRIVER.current_url}")


def every_page():
    access = token(CLIENT, SECRET)
    for path, status in (("/orders/1", 200), ("/orders/2", 200), ("/stock/1", 403), ("/nowhere", 404)):
        got, body = get(GATEWAY + path, access)
        expect(got == status, f"{path}: {got} {body}")
    visit("/decisions")
    wait("the decisions", lambda: visit("/decisions") or len(all_of("#decisions tbody tr")) >= 5)
    refused = [row for row in all_of("#decisions tbody tr") if "scope.missing" in row.text]
    one = refused[0].find_element(By.CSS_SELECTOR, "a[href^='/decisions/']").get_attribute("href")
    visit("/findings?search=secret.expired")
    finding = find("main table a[href^='/findings/']").get_attribute("href")
    wait("what is within reach", lambda: visit("/access?api=orders") or "Access to orders" in find("h1").text)
    for path, heading, table, text in (
        ("/", "Overview", "Refusals by reason", None),
        ("/integrations", "Inbound integrations", "Inbound integrations", "CRM of the sales team"),
        (f"/integrations/{CLIENT}", "CRM of the sales team", "What is within reach", "scope orders_read"),
        ("/integrations/new", "client credentials", None, None),
        ("/integrations/new?form=authorization_code", "authorization code", None, None),
        ("/access", "API access", "APIs", "orders"),
        ("/access?api=orders", "Access to orders", "What is within reach", CLIENT),
        (f"/access?client={CLIENT}", f"Access of {CLIENT}", "What is within reach", "orders"),
        ("/findings", "Findings", "Findings", "secret.no_expiry"),
        (urllib.parse.urlsplit(finding).path, "has expired", "Evidence", "2020-01-01"),
        ("/decisions", "Decisions", "Decisions", CLIENT),
        (urllib.parse.urlsplit(one).path, "Decision", "Record", "verdict"),
        ("/operations", "Keys and issuers", "Our keys", "current"),
        ("/usage", "Usage", "Use by integration", CLIENT),
        ("/audit", "Audit", "Audit records", "sign-in"),
    ):
        visit(path)
        check_page(heading)
        if table:
            shown = rows(table)
            expect(shown and (text is None or any(text in row for row in shown)), f"{path}: {text!r} in {shown[:5]}")
    visit(one.removeprefix(BASE))
    expect(len(all_of("ol.steps > li")) >= 6, "a decision has its steps")
    visit("/")
    expect(len(all_of("svg rect.permitted")) == 30, "thirty days are drawn")
    expect("permitted and" in find("svg[role=img]").get_attribute("aria-label"), "the picture has its text")
    look()
    shoot("overview.png")
    scheme("dark")
    shoot("overview-dark.png")
    scheme("light")
    visit("/integrations")
    shoot("integrations.png")
    visit(one.removeprefix(BASE))
    shoot("decision.png")
    look()
    ok("every page, light and dark")


def searches():
    visit("/integrations")
    find("[name=search]").send_keys("portal")
    leave(lambda: find("main form").submit())
    shown = rows("Inbound integrations")
    expect(len(shown) == 2, str(shown))
    visit("/integrations")
    Select(find("[name=filter]")).select_by_value("inactive")
    leave(lambda: find("main form").submit())
    expect([row.split()[0] for row in rows("Inbound integrations")] == ["off"], str(rows("Inbound integrations")))
    look()
    ok("search and filter")


def live_tail():
    access = token(CLIENT, SECRET)
    visit("/decisions?client=" + CLIENT)
    before = {row.text for row in all_of("#decisions tbody tr")}
    button("Follow live").click()
    wait("the tail to follow", lambda: "Following" in find("[data-tail-state]").text)
    # The stream begins with what comes after the gateway has it: ask until one came in.
    status, _ = get(GATEWAY + "/stock/777", access)
    expect(status == 403, str(status))

    def came():
        new = [row for row in all_of("#decisions tbody tr") if row.text not in before]
        if not new:
            get(GATEWAY + "/stock/777", access)
        return new and new[0]

    row = wait("a decision to come in", came)
    expect("scope.missing" in row.text and CLIENT in row.text and "403" in row.text, row.text)
    axe()
    button("Stop").click()
    expect(find("[data-tail-state]").text == "", "it follows on")
    to = find("#decisions tbody tr a").get_attribute("href")
    look()
    visit(to.removeprefix(BASE))
    expect("scope.missing" in find("main").text, "the row leads to its decision")
    look()
    ok("live tail")


def new_by_keyboard():
    visit("/")
    tab_to(lambda at: at[0] == "A" and at[2] == "New integration")
    leave(lambda: press(Keys.ENTER))
    values = {"name": "Warehouse sync", "id": "warehouse", "owner": "warehouse@example.com", "provider_name": "Example Inc.",
              "auth_scopes": "stock_read"}
    filled = []

    def fill(at):
        if at[1] in values and at[1] not in filled:
            press(values[at[1]])
            filled.append(at[1])
        return at[2] == "Show its effect"

    tab_to(fill)
    expect(sorted(filled) == sorted(values), f"filled in: {filled}")
    DRIVER.execute_script("scrollTo(0, 0)")
    shoot("new-integration.png")
    leave(lambda: press(Keys.ENTER))
    look()
    expect("Opens 1 operations of 1 APIs" in find("main").text, find("main").text[:500])
    expect(any("stock" in row for row in rows("Operations that it opens")), "the effect is shown")
    check_page("New integration: warehouse")
    text, secret = pre("warehouse.yaml"), pre("Client secret").strip()
    expect("sha256: " in text and secret not in text and secret in pre("Once the file"), "the file has the digest alone")
    file = FOLDER / "clients" / "warehouse.yaml"
    expect(not file.exists(), "nothing is written")
    file.write_text(text)
    visit("/")
    tab_to(lambda at: at[2] == "Read the files again")
    leave(lambda: press(Keys.ENTER))
    expect("being read again" in find("[role=status]").text, find("main").text[:300])
    access = token("warehouse", secret)
    expect(get(GATEWAY + "/stock/1", access)[0] == 200, "the new client calls")
    visit("/integrations/warehouse")
    expect("Warehouse sync" in find("h1").text, "it is there")
    look()
    ok("new integration by keyboard alone, from file to token")


def form_for_users():
    visit("/integrations/new")
    leave(lambda: find("main a[href='/integrations/new?form=authorization_code']").click())
    for name, value in (("name", "Shop window"), ("id", "bad id!")):
        field(name).send_keys(value)
    expect(field("id").get_attribute("aria-invalid") == "true", "the fault is not shown as one types")
    axe()
    field("id").clear()
    field("id").send_keys("shop-window")
    expect(field("id").get_attribute("aria-invalid") == "false", "the fault stays")
    field("provider_name").send_keys("Example Inc.")
    field("redirect_urls").send_keys("not a url")
    field("auth_scopes").send_keys("orders_read")
    leave(button("Show its effect").click)
    look(["/integrations/new"])
    expect(field("name").get_attribute("value") == "Shop window", "what was typed is kept")
    expect("absolute URL" in find("[role=status]").text, find("[role=status]").text)
    axe()
    field("redirect_urls").clear()
    field("redirect_urls").send_keys("https://shop.example/cb")
    leave(button("Show its effect").click)
    look()
    text = pre("shop-window.yaml")
    expect("authorization_code" in text and "https://shop.example/cb" in text and "refresh_token" in text, text)
    check_page("New integration: shop-window")
    ok("the form for users")


def written_by_the_console():
    visit("/integrations/new")
    for name, value in (("name", "Stock display"), ("id", "display"), ("owner", "stock@example.com"), ("auth_scopes", "stock_read")):
        field(name).send_keys(value)
    leave(button("Write its file").click)
    look()
    expect("display.yaml was written" in find("[role=status]").text, find("main").text[:500])
    expect((FOLDER / "clients" / "display.yaml").read_text() == pre("display.yaml"), "the file is what is shown")
    access = token("display", pre("Client secret").strip())
    expect(get(GATEWAY + "/stock/1", access)[0] == 200, "the new client calls")
    expect(get(GATEWAY + "/orders/1", access)[0] == 403, "and no more than it may")
    ok("a file written by the console, and its token")


def finding_to_its_patch():
    visit("/findings?search=secret.expired")
    leave(find("main table a[href^='/findings/secret.expired/']").click)
    at = urllib.parse.urlsplit(DRIVER.current_url).path
    diff = pre("The edit of")
    expect("expires: 2020-01-01" in diff, diff)
    before = (FOLDER / "clients" / "all.yaml").read_text()
    # Files are named as the operator named them: here, with an absolute path.
    subprocess.run(["patch", "-p0", "--batch", str(FOLDER / "clients" / "all.yaml")], input=diff, text=True, check=True,
                   stdout=subprocess.DEVNULL)
    after = (FOLDER / "clients" / "all.yaml").read_text()
    expect("2020-01-01" in before and "2020-01-01" not in after, after)
    visit("/")
    leave(button("Read the files again").click)
    look()
    wait("the finding to be gone", lambda: get_status(at) == 404)
    visit("/findings?search=secret.expired")
    expect(not rows("Findings"), str(rows("Findings")))
    # The secret that is left is good.
    token(CLIENT, SECRET)
    look()
    ok("a finding, its patch, and gone")


def get_status(path):
    """The status of a page for this session, without a note in the browser's console."""
    cookie = DRIVER.get_cookies()[0]
    request = urllib.request.Request(BASE + path, headers={"Cookie": f"{cookie['name']}={cookie['value']}"})
    try:
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            return answer.status
    except urllib.error.HTTPError as answer:
        return answer.code


def acting():
    visit(f"/integrations/{CLIENT}")
    field("reason").send_keys("<b>drill</b>")
    leave(button("Block it").click)
    expect("Blocked" in find("[role=status]").text, find("[role=status]").text)
    axe()
    visit("/operations")
    expect(any("<b>drill</b>" in row for row in rows("Blocks set by acts")), str(rows("Blocks set by acts")))
    visit(f"/integrations/{CLIENT}")
    expect("It is blocked" in find("[role=status]").text, find("[role=status]").text)
    leave(button("End the block").click)
    expect("Not blocked any more" in find("[role=status]").text, find("[role=status]").text)
    visit("/audit")
    expect(any("unblock" in row and "eddi" in row for row in rows("Audit records")), "the act is on record")
    look()
    ok("acts, on record")


def without_a_script():
    DRIVER.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        for path, text in (("/", "Machine identities"), ("/decisions", CLIENT), ("/integrations/new", "Client ID")):
            DRIVER.get(BASE + path)
            expect(text in find("main").text, f"{path} without a script")
        expect(not [one for one in all_of("[data-tail-button]") if one.is_displayed()], "a button that does nothing")
    finally:
        DRIVER.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    look()
    ok("read without a script")


def signing_out():
    visit("/")
    cookie = DRIVER.get_cookies()[0]
    leave(button("Sign out").click)
    expect(urllib.parse.urlsplit(DRIVER.current_url).path == "/sign-in", DRIVER.current_url)
    expect(not DRIVER.get_cookies(), "the cookie stays")
    DRIVER.back()
    loaded()
    expect(urllib.parse.urlsplit(DRIVER.current_url).path == "/sign-in", f"back shows {DRIVER.current_url}")
    # The session is gone, not the cookie alone.
    DRIVER.add_cookie({"name": cookie["name"], "value": cookie["value"], "path": "/"})
    visit("/")
    expect(urllib.parse.urlsplit(DRIVER.current_url).path == "/sign-in", f"the session goes on at {DRIVER.current_url}")
    look()
    ok("signing out ends the session")


try:
    run([wrong_password, signing_in, every_page, searches, live_tail, new_by_keyboard, form_for_users, written_by_the_console,
         finding_to_its_patch, acting, without_a_script, signing_out])
finally:
    DRIVER.quit()
