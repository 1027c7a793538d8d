"""Login at an OpenID provider in headless Chromium: from our sign-in page to the provider's and back, then consent.

AUTHORIZE_URL, SHOTS: as in pages.py. PROVIDER is the provider's issuer, LINK what the link to it says, SUBJECT who signs in there.
"""

import pages
from steps import expect, ok, run, setting

PROVIDER = setting("PROVIDER").rstrip("/")
LINK = setting("LINK")
SUBJECT = setting("SUBJECT")


def there(person, subject):
    """Signs in on the provider's pages: name and any password, then its own consent."""
    person.leave(person.find("a.button").click)
    url = person.driver.current_url
    expect(url.startswith(PROVIDER + "/"), f"wanted the provider, got {url}: {person.text()[:300]!r}")
    person.find("input[name=login]").send_keys(subject)
    person.find("input[name=password]").send_keys("any")
    press(person)
    if person.driver.current_url.startswith(PROVIDER + "/"):
        press(person)


def press(person):
    """The one button of the provider's page."""
    expect(person.has("form button"), f"no button at {person.driver.current_url}: {person.text()[:500]!r}")
    person.leave(person.find("form button").click)


def signs_in(person):
    state = person.open()
    person.expect_at("login")
    person.check_page()
    link = person.find("a.button")
    expect(link.text == LINK, f"the link says {link.text!r}")
    person.shoot("login-provider.png")
    ok("the sign-in page leads to the provider")
    there(person, SUBJECT)
    person.expect_at("consent")
    ok("back from the provider, signed in")
    person.press("allow")
    person.expect_at("client")
    answer = pages.query(person.driver.current_url)
    expect(answer.get("state") == state and answer.get("code"), f"the client got {sorted(answer)}")
    ok("allowed")


def a_stranger(person):
    person.open()
    there(person, "somebody-else")
    person.expect_at("page")
    person.check_page()
    expect("no account here" in person.text() and "somebody-else" in person.text(), person.text())
    ok("a stranger is told whom to ask, with issuer and subject")


def in_a_new_browser(flow):
    def done():
        person = pages.Person()
        try:
            flow(person)
            ours = [entry["message"] for entry in person.watch.console if entry["message"].startswith(pages.BASE)]
            # Chromium notes every page of status 4xx; a policy that stopped something would be noted too.
            expect(all("403" in message for message in ours), f"in the console: {ours}")
        finally:
            person.driver.quit()

    done.__name__ = flow.__name__
    return done


pages.listen()
run([in_a_new_browser(signs_in), in_a_new_browser(a_stranger)])
