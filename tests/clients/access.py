"""The page of `scopegate access --format html` in headless Chromium, as a security reviewer reads it: from a file, without a network.

PAGE is the file. SHOTS is the folder for its picture.
"""

import json
import pathlib
import time

from selenium.webdriver.common.by import By

from chromium import start
from steps import expect, ok, run, setting

PAGE = pathlib.Path(setting("PAGE"))
SHOTS = pathlib.Path(setting("SHOTS"))
DRIVER = start()


def rows():
    return [row.text for row in DRIVER.find_elements(By.CSS_SELECTOR, "#reach tbody tr") if row.is_displayed()]


def count(wanted):
    """Waits until so many rows are shown, and the page says so."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        shown = rows()
        if len(shown) == wanted and DRIVER.find_element(By.ID, "count").text == f"{wanted} rows":
            return shown
        time.sleep(0.05)
    raise AssertionError(f"{len(rows())} rows are shown, {DRIVER.find_element(By.ID, 'count').text!r} is said: wanted {wanted}")


def search(text):
    field = DRIVER.find_element(By.ID, "search")
    field.clear()
    field.send_keys(text)


def reads_whole():
    DRIVER.set_window_size(1280, 800)
    DRIVER.get(PAGE.as_uri())
    shown = rows()
    expect(len(shown) == 9, f"{len(shown)} rows: {shown}")
    expect(DRIVER.title.startswith("Who can reach what at http://127.0.0.1:"), DRIVER.title)
    expect(any("<script>alert(1)</script>" in row for row in shown), "a name is shown as it is written")
    ok("the page shows every row")


def searches():
    search("CRM post")
    shown = count(1)
    expect("crm-sync" in shown[0] and "10.20.0.0/16" in shown[0] and "incident_write" in shown[0], shown[0])
    search("crm-sync")
    count(5)
    DRIVER.save_screenshot(str(SHOTS / "access.png"))
    search("itil")
    count(7)
    search("nowhere")
    count(0)
    search(" ")
    count(9)
    ok("every word narrows the rows, whatever its case")


def marks_what_is_unused():
    box = DRIVER.find_element(By.ID, "unused")
    box.click()
    shown = count(8)
    expect(all("never" in row for row in shown), str(shown))
    box.click()
    count(9)
    idle = DRIVER.find_element(By.ID, "idle").text
    expect("crm-sync incident_write" in idle and "portal" not in idle, idle)
    ok("what was not used can be listed")


def is_one_file():
    for entry in DRIVER.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            expect(url == PAGE.as_uri() or url.startswith("data:"), f"the page asks for {url}")
    faults = [entry["message"] for entry in DRIVER.get_log("browser")]
    expect(not faults, f"in the console: {faults}")
    DRIVER.set_window_size(390, 844)
    wide = DRIVER.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    expect(wide <= 0, f"on a phone it is {wide} pixels too wide")
    ok("it asks for nothing, has no faults in the console, and fits a phone")


try:
    run([reads_whole, searches, marks_what_is_unused, is_one_file])
finally:
    DRIVER.quit()
