"""Authlib (requests): discovery, client credentials, authorization code with PKCE, refresh, introspection, revocation.

The file is not called authlib.py, which would hide the library of that name.
"""

import urllib.parse

from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
import requests

from browser import Browser
from steps import expect, expect_token, ok, run, setting

BASE = setting("BASE")
CLIENT = (setting("CLIENT_ID"), setting("CLIENT_SECRET"))
PUBLIC_CLIENT = (setting("PUBLIC_CLIENT_ID"), None)
REDIRECT_URI = setting("REDIRECT_URI")
API = BASE + setting("API_PATH")
SCOPE = setting("SCOPE", "") or None
OWNER = (setting("USERNAME"), setting("PASSWORD"))

server = AuthorizationServerMetadata()


def session(client, **options):
    options = {"scope": SCOPE, "default_timeout": 30, "token_endpoint": server["token_endpoint"], **options}
    return OAuth2Session(*client, **options)


def refused(call, code):
    """The error code with which Authlib reports a refusal."""
    try:
        call()
    except OAuthError as error:
        expect(error.error == code, f"refused with {error.error!r}, wanted {code!r}")
        return
    expect(False, f"not refused, wanted {code!r}")


def discovery():
    answer = requests.get(get_well_known_url(BASE, external=True), timeout=30)
    expect(answer.status_code == 200, f"the metadata gave {answer.status_code}")
    server.update(answer.json())
    server.validate()
    expect(server["issuer"] == BASE, f"the issuer is {server['issuer']!r}, wanted {BASE!r}")
    for method in ("client_secret_basic", "client_secret_post", "none"):
        expect(method in server.token_endpoint_auth_methods_supported, f"token_endpoint_auth_methods_supported lacks {method}")
    expect("S256" in server["code_challenge_methods_supported"], "code_challenge_methods_supported lacks S256")
    ok("server metadata")


def client_credentials():
    for method in ("client_secret_basic", "client_secret_post"):
        with session(CLIENT, token_endpoint_auth_method=method) as client:
            expect_token(client.fetch_token(grant_type="client_credentials"), SCOPE, refreshable=False)
            answer = client.get(API)
            expect(answer.status_code == 200, f"the API gave {answer.status_code}: {answer.text[:300]}")
        ok(f"client credentials, {method}")
    with session((CLIENT[0], CLIENT[1] + "x")) as client:
        refused(lambda: client.fetch_token(grant_type="client_credentials"), "invalid_client")
    ok("client credentials, wrong secret")


def authorize(credentials, act="allow"):
    """A session and what the client was called back with."""
    client = session(credentials, redirect_uri=REDIRECT_URI, code_challenge_method="S256")
    verifier = generate_token(48)
    url, state = client.create_authorization_url(server["authorization_endpoint"], code_verifier=verifier)
    back = Browser(REDIRECT_URI).authorize(url, *OWNER, act=act)
    answer = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(back).query))
    expect(answer.get("state") == state, f"the state came back as {answer.get('state')!r}, wanted {state!r}")
    expect(answer.get("iss") == server["issuer"], f"the iss came back as {answer.get('iss')!r}")
    return client, verifier, back, state


def authorization_code(credentials, kind):
    client, verifier, back, state = authorize(credentials)
    fetched = client.fetch_token(authorization_response=back, state=state, code_verifier=verifier)
    expect_token(fetched, SCOPE, refreshable=True)
    first = dict(fetched)
    ok(f"authorization code with PKCE, {kind}")
    answer = client.get(API)
    expect(answer.status_code == 200, f"the API gave {answer.status_code}: {answer.text[:300]}")
    ok(f"API call for a user, {kind}")
    expect_token(client.refresh_token(), SCOPE, refreshable=True)
    expect(client.token["access_token"] != first["access_token"], "refreshing gave the same access token")
    ok(f"refresh, {kind}")
    return client


def confidential_client():
    client = authorization_code(CLIENT, "confidential client")
    about = server["introspection_endpoint"]
    for hint in ("access_token", "refresh_token"):
        answer = client.introspect_token(about, token=client.token[hint], token_type_hint=hint)
        expect(answer.status_code == 200, f"introspection gave {answer.status_code}: {answer.text[:300]}")
        expect(answer.json().get("active") is True, f"the {hint} is not active: {answer.text[:300]}")
    answer = client.introspect_token(about, token="nonsense")
    expect((answer.status_code, answer.json()) == (200, {"active": False}), f"nonsense is {answer.status_code} {answer.text[:300]}")
    ok("introspection")

    for hint in ("access_token", "refresh_token"):
        answer = client.revoke_token(server["revocation_endpoint"], token=client.token[hint], token_type_hint=hint)
        expect(answer.status_code == 200, f"revocation of the {hint} gave {answer.status_code}: {answer.text[:300]}")
        answer = client.introspect_token(about, token=client.token[hint])
        expect(answer.json() == {"active": False}, f"the revoked {hint} is {answer.text[:300]}")
    answer = client.get(API)
    expect(answer.status_code == 401, f"the API gave {answer.status_code} for a revoked token")
    refused(client.refresh_token, "invalid_grant")
    ok("revocation")


def public_client():
    client = authorization_code(PUBLIC_CLIENT, "public client")
    answer = client.revoke_token(server["revocation_endpoint"], token=client.token["refresh_token"])
    expect(answer.status_code == 200, f"revocation gave {answer.status_code}: {answer.text[:300]}")
    refused(client.refresh_token, "invalid_grant")
    ok("revocation, public client")


def wrong_verifier():
    client, verifier, back, state = authorize(CLIENT)
    refused(lambda: client.fetch_token(authorization_response=back, state=state, code_verifier=verifier[::-1]), "invalid_grant")
    ok("wrong code verifier")


def denied():
    _, _, back, _ = authorize(CLIENT, act="deny")
    answer = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(back).query))
    expect(answer.get("error") == "access_denied" and "code" not in answer, f"after Deny: {answer}")
    ok("denied by the user")


# What is once allowed is not asked again: the denial comes first.
run([discovery, client_credentials, denied, confidential_client, public_client, wrong_verifier])
