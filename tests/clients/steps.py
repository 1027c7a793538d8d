"""What the Python clients share: settings from the environment, one line for each step, a clear end at the first fault."""

import os
import sys


class Wrong(Exception):
    """What a client saw is not what it needs."""


def setting(name, default=None):
    """A setting of the environment; without a default it must be there."""
    value = os.environ.get(name) or default
    if value is None:
        sys.exit(f"{sys.argv[0]}: set {name}")
    return value


def ok(step):
    print(f"ok {step}", flush=True)


def expect(holds, message):
    if not holds:
        raise Wrong(message)


def run(flows):
    """Runs the flows in order; the first fault ends the program with its text and exit code 1."""
    for flow in flows:
        try:
            flow()
        # oauthlib raises a bare Warning where the scope differs from the one asked for.
        except Exception as fault:
            kind = "" if isinstance(fault, Wrong) else f"{type(fault).__module__}.{type(fault).__name__}: "
            # Selenium adds a stack trace of the browser's.
            text = str(fault).split("\nStacktrace:")[0]
            print(f"FAILED in {flow.__name__}: {kind}{text}", file=sys.stderr, flush=True)
            if not isinstance(fault, Wrong) and os.environ.get("TRACE"):
                raise
            sys.exit(1)


def expect_token(token, scope=None, refreshable=None):
    """A token reply as the clients keep it: a dictionary."""
    shown = {name: "…" if "token" in name and name != "token_type" else value for name, value in token.items()}
    expect(isinstance(token.get("access_token"), str) and token["access_token"], f"no access_token: {shown}")
    expect(str(token.get("token_type")).lower() == "bearer", f"token_type is not Bearer: {shown}")
    expect(isinstance(token.get("expires_in"), int) and token["expires_in"] > 0, f"expires_in is no positive integer: {shown}")
    expect(token.get("scope"), f"no scope: {shown}")
    expect(None not in token.values(), f"a member is null: {shown}")
    if refreshable is not None:
        expect(bool(token.get("refresh_token")) == refreshable, f"refresh_token wanted: {refreshable}, got: {shown}")
    if scope:
        got = token["scope"] if isinstance(token["scope"], list) else token["scope"].split(" ")
        expect(sorted(got) == sorted(scope.split(" ")), f"asked for the scope {scope!r}, got {token['scope']!r}")
