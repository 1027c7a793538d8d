"""Headless Chromium, as the tests of pages start it."""

from selenium import webdriver

from steps import setting


def start():
    options = webdriver.ChromeOptions()
    options.binary_location = setting("CHROMIUM", "/usr/bin/chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
                     "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                     "--disable-extensions", "--no-proxy-server", "--lang=en"):
        options.add_argument(argument)
    prefs = {"credentials_enable_service": False, "profile.password_manager_leak_detection": False}
    options.add_experimental_option("prefs", prefs)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # A given driver keeps Selenium from looking for one to download.
    service = webdriver.ChromeService(executable_path=setting("CHROMEDRIVER", "/usr/bin/chromedriver"))
    return webdriver.Chrome(options=options, service=service)
