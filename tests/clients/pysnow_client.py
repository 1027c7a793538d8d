"""pysnow: a token by the resource owner's password at /oauth_token.do, the Table API with it, and its own refresh.

`host` with `use_ssl=False` points the unmodified library at plain HTTP; the oauthlib under it wants OAUTHLIB_INSECURE_TRANSPORT.
"""

import os
import urllib.parse

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"

import pysnow
from pysnow.exceptions import TokenCreateError

from steps import expect, expect_token, ok, run, setting

BASE = urllib.parse.urlsplit(setting("BASE"))
CLIENT_ID = setting("CLIENT_ID")
CLIENT_SECRET = setting("CLIENT_SECRET")
OWNER = (setting("USERNAME"), setting("PASSWORD"))
# The library puts /api/now before the path of a resource.
API_PATH = setting("API_PATH", "/api/now/table/incident")

updated = []


def keep(fetched):
    # The library refreshes in a session of its own and does not keep the new token itself.
    updated.append(fetched)
    client.set_token(fetched)


client = pysnow.OAuthClient(client_id=CLIENT_ID, client_secret=CLIENT_SECRET, token_updater=keep, host=BASE.netloc,
                            use_ssl=BASE.scheme == "https")


def token():
    fetched = client.generate_token(*OWNER)
    expect_token(fetched, refreshable=True)
    # Refuses a token that lacks any of token_type, refresh_token, access_token, scope, expires_in and expires_at.
    client.set_token(fetched)
    ok("token by password")


def call():
    base, path = API_PATH[: len("/api/now")], API_PATH[len("/api/now") :]
    expect(base == "/api/now", f"API_PATH must begin with /api/now, not {base!r}")
    records = client.resource(api_path=path).get(query={}, limit=2).all()
    expect(isinstance(records, list), f"no list of records: {records!r}")
    ok("Table API")
    streamed = list(client.resource(api_path=path).get(query={}, limit=2, stream=True).all())
    expect(len(streamed) == len(records), f"{len(streamed)} records streamed, {len(records)} at once")
    ok("Table API, streamed")


def refresh():
    before = client.token["access_token"]
    client.set_token({**client.token, "expires_in": -30, "expires_at": 1})
    call()
    expect(len(updated) == 1, f"the expired token was refreshed {len(updated)} times, wanted once")
    expect_token(updated[-1], refreshable=True)
    expect(updated[-1]["access_token"] != before, "refreshing gave the same access token")
    ok("refresh")


def wrong_password():
    try:
        client.generate_token(OWNER[0], OWNER[1] + "x")
        expect(False, "a wrong password gave a token")
    except TokenCreateError as error:
        expect(error.description, f"the refusal carries no text: {vars(error)}")
        ok("wrong password")


run([token, call, refresh, wrong_password])
