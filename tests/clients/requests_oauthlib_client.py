"""requests-oauthlib: client credentials, authorization code with PKCE, refresh by hand and by itself."""

import os

# oauthlib refuses plain HTTP otherwise.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"

from oauthlib.oauth2 import AccessDeniedError, BackendApplicationClient, InvalidClientError
import requests
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from browser import Browser
from steps import expect, expect_token, ok, run, setting

BASE = setting("BASE")
CLIENT_ID = setting("CLIENT_ID")
CLIENT_SECRET = setting("CLIENT_SECRET")
PUBLIC_CLIENT_ID = setting("PUBLIC_CLIENT_ID")
REDIRECT_URI = setting("REDIRECT_URI")
API = BASE + setting("API_PATH")
SCOPE = setting("SCOPE", "") or None
OWNER = (setting("USERNAME"), setting("PASSWORD"))

server = {}


def endpoints():
    # The library knows no discovery.
    server.update(requests.get(BASE + "/.well-known/oauth-authorization-server", timeout=30).json())
    ok("endpoints")


def call_api(session):
    answer = session.get(API, timeout=30)
    expect(answer.status_code == 200, f"the API gave {answer.status_code}: {answer.text[:300]}")


def client_credentials():
    # By default the library sends a Basic header; with include_client_id it sends the body instead.
    for kind, options in (("Basic", {}), ("body", {"include_client_id": True})):
        session = OAuth2Session(client=BackendApplicationClient(client_id=CLIENT_ID, scope=SCOPE))
        token = session.fetch_token(server["token_endpoint"], client_secret=CLIENT_SECRET, timeout=30, **options)
        expect_token(token, SCOPE, refreshable=False)
        call_api(session)
        ok(f"client credentials, {kind}")
    session = OAuth2Session(client=BackendApplicationClient(client_id=CLIENT_ID))
    try:
        session.fetch_token(server["token_endpoint"], client_secret=CLIENT_SECRET + "x", timeout=30)
        expect(False, "a wrong secret gave a token")
    except InvalidClientError:
        ok("client credentials, wrong secret")


def authorization_code(client_id, kind, how, refresh_how):
    session = OAuth2Session(client_id, redirect_uri=REDIRECT_URI, scope=SCOPE, pkce="S256")
    url, _ = session.authorization_url(server["authorization_endpoint"])
    back = Browser(REDIRECT_URI).authorize(url, *OWNER)
    # Checks the state too.
    token = session.fetch_token(server["token_endpoint"], authorization_response=back, timeout=30, **how)
    expect_token(token, SCOPE, refreshable=True)
    ok(f"authorization code with PKCE, {kind}")
    call_api(session)
    ok(f"API call for a user, {kind}")

    first = dict(token)
    token = session.refresh_token(server["token_endpoint"], timeout=30, **refresh_how)
    expect_token(token, SCOPE, refreshable=True)
    expect(token["access_token"] != first["access_token"], "refreshing gave the same access token")
    call_api(session)
    ok(f"refresh, {kind}")
    return dict(token)


def confidential_client():
    basic = HTTPBasicAuth(CLIENT_ID, CLIENT_SECRET)
    token = authorization_code(CLIENT_ID, "confidential client", {"client_secret": CLIENT_SECRET}, {"auth": basic})

    kept = []
    body = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    session = OAuth2Session(CLIENT_ID, token={**token, "expires_in": -30, "expires_at": 1}, token_updater=kept.append,
                            auto_refresh_url=server["token_endpoint"], auto_refresh_kwargs=body)
    call_api(session)
    expect(len(kept) == 1, "the expired token was not refreshed before the call")
    expect_token(kept[0], SCOPE, refreshable=True)
    ok("automatic refresh")


def public_client():
    # With neither secret nor include_client_id the library would send Basic credentials with an empty secret.
    body = {"client_id": PUBLIC_CLIENT_ID}
    authorization_code(PUBLIC_CLIENT_ID, "public client", {"include_client_id": True}, body)


def denied():
    session = OAuth2Session(CLIENT_ID, redirect_uri=REDIRECT_URI, scope=SCOPE, pkce="S256")
    url, _ = session.authorization_url(server["authorization_endpoint"])
    back = Browser(REDIRECT_URI).authorize(url, *OWNER, act="deny")
    try:
        session.fetch_token(server["token_endpoint"], authorization_response=back, client_secret=CLIENT_SECRET, timeout=30)
        expect(False, "a denied request gave a token")
    except AccessDeniedError:
        ok("denied by the user")


# What is once allowed is not asked again: the denial comes first.
run([endpoints, client_credentials, denied, confidential_client, public_client])
