#!/usr/bin/env python3
"""Writes keys.json and samples.json of each provider: tokens made after the documents that the provider publishes, signed by the test
keys of test-keys/, which sign nothing else. The same run gives the same bytes. Needs the package cryptography.

Each sample says what the gateway makes of it: the verdict and the fault as they stand in the decision record, and what the library of
check.py makes of its signature, times, issuer and audience. They live until 2100, so that a running gateway can be asked too.
"""

import base64
import hashlib
import hmac
import json
import pathlib

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

HERE = pathlib.Path(__file__).parent
ISSUED, EXPIRES = 1767225600, 4102444800  # 2026-01-01 and 2100-01-01
TIMES = {"iat": ISSUED, "nbf": ISSUED, "exp": EXPIRES}


def private(name):
    return serialization.load_pem_private_key((HERE / f"test-keys/test-only-{name}.pem").read_bytes(), None)


RSA, EC, STRANGER = private("rsa"), private("ec"), private("stranger")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value):
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def jwk(key, **members):
    numbers = key.public_key().public_numbers()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        point = {"x": b64(numbers.x.to_bytes(32, "big")), "y": b64(numbers.y.to_bytes(32, "big"))}
        return {"kty": "EC", "crv": "P-256", **point, **members}
    return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **members}


def sign(header, claims, key):
    parts = [b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)]
    signed = ".".join(parts).encode()
    if header["alg"].startswith("HS"):
        # Of the provider's own secret, which nobody else has.
        signature = hmac.new(b"test-only", signed, getattr(hashlib, "sha" + header["alg"][2:])).digest()
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = utils.decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    else:
        signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return ".".join([*parts, b64(signature)])


ALGORITHMS = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"


def shared_secret(alg):
    return f"algorithm: saw {alg}, which needs a secret shared with the issuer; wants one of {ALGORITHMS}"


# What PyJWT says to a sample that the gateway refuses with this fault; it knows nothing of the others and takes the token.
LIBRARY = {
    "form": "DecodeError",
    "algorithm": "InvalidAlgorithmError",
    "signature": "InvalidSignatureError",
    "expired": "ExpiredSignatureError",
    "audience": "InvalidAudienceError",
    "issuer": "InvalidIssuerError",
}


class Provider:
    """A provider's folder: its documents, its issuer, and the samples."""

    def __init__(self, folder, issuer, audience, documents, header, keys, key=RSA):
        self.folder, self.issuer, self.audience, self.documents = folder, issuer, audience, documents
        self.header, self.keys, self.key = header, keys, key
        self.samples = []

    def sample(
        self, name, about, claims, request, verdict, fault="", *, header=None, key=None, token=None, change=None, library=None, **record
    ):
        """`change` is what has to be written in the place of what in the recipe; `record` what else the record says."""
        header = {**self.header, **(header or {})}
        header = {name: value for name, value in header.items() if value is not None}
        label = fault.split(":")[0]
        said = {"name": name, "about": about, "request": request}
        if change:
            said["change"] = change
        if token is None:
            said |= {"header": header, "claims": claims}
            token = sign(header, claims, key or self.key)
        said |= {"token": token, "verdict": verdict}
        if fault:
            said["fault"] = fault
        if record:
            said["record"] = record
        said["library"] = library or LIBRARY.get(label, "ok")
        self.samples.append(said)

    def write(self):
        folder = HERE / self.folder
        (folder / "keys.json").write_text(json.dumps({"keys": self.keys}, indent=1) + "\n")
        documents = [{"address": address, "date": date} for address, date in self.documents]
        whole = {"issuer": self.issuer, "audience": self.audience, "documents": documents, "samples": self.samples}
        (folder / "samples.json").write_text(json.dumps(whole, indent=1) + "\n")


READS, DELETES = "GET /shop/orders/7", "DELETE /shop/orders/7"


def without(claims, *names):
    return {name: value for name, value in claims.items() if name not in names}


def unknown_issuer(seen):
    return f"issuer: saw {seen}, which is no issuer's here"


def wrong_audience(seen, *wanted):
    return f"audience: saw {seen}, wants one of {', '.join(wanted)}"


# ── Entra ID ────────────────────────────────────────────────────────────────────────────────────────────────────────

TENANT = "5f9c1a7e-2b60-4d0b-9a3e-6c1d2e8f4a10"
SHOP_API = "c0ffee11-7d52-4b8e-8f3a-1f0a9d6b2c33"
SHOP_WEB, STOCK_SYNC = "a1b2c3d4-1111-4a5b-9c8d-0e1f2a3b4c5d", "d4c3b2a1-2222-4b5a-8d9c-5d4c3b2a1f0e"
ADMINS = "7b1e0c52-9a44-4f5d-8d2b-3e6f5a1c9d07"
USER, PRINCIPAL = "2e8f4a10-6c1d-4d0b-9a3e-5f9c1a7e2b60", "93a1f0c4-8e27-4c55-b6d1-0a9b8c7d6e5f"
V1, V2 = f"https://sts.windows.net/{TENANT}/", f"https://login.microsoftonline.com/{TENANT}/v2.0"
ENTRA_DOCUMENTS = [
    ("https://learn.microsoft.com/en-us/entra/identity-platform/access-token-claims-reference", "2023-05-26"),
    ("https://learn.microsoft.com/en-us/entra/identity-platform/access-tokens", "2023-08-01"),
]


def entra_keys(kid):
    return [jwk(RSA, use="sig", kid=kid, x5t=kid)]


KID = "test-only-entra-key-1"
entra = Provider("entra", V2, [SHOP_API], ENTRA_DOCUMENTS, {"typ": "JWT", "alg": "RS256", "kid": KID}, entra_keys(KID))
user = {
    "aud": SHOP_API,
    "iss": V2,
    **TIMES,
    "aio": "test-only",
    "azp": SHOP_WEB,
    "azpacr": "0",
    "groups": [ADMINS, "1c9d073e-6f5a-4d2b-8f5d-9a447b1e0c52"],
    "name": "Alice Doe",
    "oid": USER,
    "preferred_username": "alice@example.com",
    "rh": "0.test-only",
    "scp": "Orders.Read Orders.Write",
    "sub": "test-only-pairwise-subject-v2",
    "tid": TENANT,
    "uti": "test-only-uti-1",
    "ver": "2.0",
}
app = {
    "aud": SHOP_API,
    "iss": V2,
    **TIMES,
    "aio": "test-only",
    "azp": STOCK_SYNC,
    "azpacr": "1",
    "idtyp": "app",
    "oid": PRINCIPAL,
    "rh": "0.test-only",
    "roles": ["Orders.Read.All"],
    "sub": PRINCIPAL,
    "tid": TENANT,
    "uti": "test-only-uti-3",
    "ver": "2.0",
}
v1_user = {
    "aud": "api://shop",
    "iss": V1,
    **TIMES,
    "acr": "1",
    "aio": "test-only",
    "amr": ["pwd"],
    "appid": SHOP_WEB,
    "appidacr": "0",
    "ipaddr": "192.0.2.7",
    "name": "Alice Doe",
    "oid": USER,
    "rh": "0.test-only",
    "scp": "Orders.Read",
    "sub": "test-only-pairwise-subject-v1",
    "tid": TENANT,
    "unique_name": "alice@example.com",
    "uti": "test-only-uti-2",
    "ver": "1.0",
}
v1_app = {
    "aud": "api://shop",
    "iss": V1,
    **TIMES,
    "aio": "test-only",
    "appid": STOCK_SYNC,
    "appidacr": "1",
    "idp": V1,
    "oid": PRINCIPAL,
    "rh": "0.test-only",
    "roles": ["Orders.Read.All"],
    "sub": PRINCIPAL,
    "tid": TENANT,
    "uti": "test-only-uti-3",
    "ver": "1.0",
}
entra.sample(
    "user",
    "a user's token",
    user,
    READS,
    "permit",
    client="shop-web",
    subject=USER,
    scopes="Orders.Read Orders.Write",
    roles=["shop_admin"],
)
entra.sample("group", "the same user deletes, being in the group", user, DELETES, "permit", roles=["shop_admin"])
entra.sample(
    "application", "an application without a user", app, READS, "permit", client="stock-sync", subject=PRINCIPAL, scopes="Orders.Read.All"
)
entra.sample("v1-token", "the API is registered for v1 tokens", v1_user, READS, "token.invalid", unknown_issuer(V1))
entra.sample(
    "other-api",
    "the client has asked for another API",
    {**user, "aud": "0ddba11a-4c3b-4a5e-9d7c-2b1a0f9e8d7c"},
    READS,
    "token.invalid",
    wrong_audience("0ddba11a-4c3b-4a5e-9d7c-2b1a0f9e8d7c", SHOP_API),
)
entra.sample(
    "audience-uri",
    "the Application ID URI stands in the recipe, as v1 tokens have it",
    user,
    READS,
    "token.invalid",
    wrong_audience(SHOP_API, "api://shop"),
    change=[f"[{SHOP_API}]", "[api://shop]"],
    library="ok",
)
entra.sample(
    "other-tenant",
    "a user of another tenant",
    {**user, "iss": V2.replace(TENANT, "9188040d-6c67-4c5b-b112-36a304b66dad"), "tid": "9188040d-6c67-4c5b-b112-36a304b66dad"},
    READS,
    "token.invalid",
    unknown_issuer(V2.replace(TENANT, "9188040d-6c67-4c5b-b112-36a304b66dad")),
)
overage = {
    **without(user, "groups"),
    "_claim_names": {"groups": "src1"},
    "_claim_sources": {"src1": {"endpoint": f"https://graph.windows.net/{TENANT}/users/{USER}/getMemberObjects"}},
}
entra.sample(
    "groups-overage",
    "a user in more than 200 groups: a link stands in the place of the list",
    overage,
    DELETES,
    "acl.role",
    client="shop-web",
    scopes="Orders.Read Orders.Write",
)
entra.sample(
    "no-app-role", "an application that no app role was assigned to", without(app, "roles"), READS, "scope.missing", client="stock-sync"
)
id_token = {
    "aud": SHOP_API,
    "iss": V2,
    **TIMES,
    "name": "Alice Doe",
    "nonce": "678910",
    "oid": USER,
    "preferred_username": "alice@example.com",
    "rh": "0.test-only",
    "sub": "test-only-pairwise-subject-v2",
    "tid": TENANT,
    "uti": "test-only-uti-1",
    "ver": "2.0",
}
entra.sample("id-token", "an ID token, where application and API are one registration", id_token, READS, "client.unknown")
entra.sample("stranger", "signed by somebody else's key", user, READS, "token.invalid", "signature", key=STRANGER)

entra_v1 = Provider(
    "entra-v1", V1, ["api://shop", SHOP_API], ENTRA_DOCUMENTS, {"typ": "JWT", "alg": "RS256", "x5t": KID, "kid": KID}, entra_keys(KID)
)
entra_v1.sample("user", "a user's token", v1_user, READS, "permit", client="shop-web", subject=USER, scopes="Orders.Read")
entra_v1.sample(
    "application",
    "an application without a user",
    v1_app,
    READS,
    "permit",
    client="stock-sync",
    subject=PRINCIPAL,
    scopes="Orders.Read.All",
)
entra_v1.sample("v2-token", "the API is registered for v2 tokens", user, READS, "token.invalid", unknown_issuer(V2))
entra_v1.sample(
    "no-slash",
    "the issuer was written without its slash",
    v1_user,
    READS,
    "token.invalid",
    unknown_issuer(V1),
    change=[V1, V1[:-1]],
    library="ok",
)
entra_v1.sample("azp", "the client claim of v2 was asked for", v1_user, READS, "client.unknown", change=["client: appid", "client: azp"])
entra_v1.sample(
    "other-api",
    "the client has asked for another API",
    {**v1_user, "aud": "https://management.azure.com/"},
    READS,
    "token.invalid",
    wrong_audience("https://management.azure.com/", "api://shop", SHOP_API),
)

# ── Okta ────────────────────────────────────────────────────────────────────────────────────────────────────────────

OKTA = "https://example.okta.com/oauth2/default"
KID = "test-only-okta-key-1"
okta = Provider(
    "okta",
    OKTA,
    ["api://default"],
    [("https://developer.okta.com/docs/reference/api/oidc/", "undated; okta/okta-developer-docs@0216983")],
    {"kid": KID, "alg": "RS256"},
    [jwk(RSA, alg="RS256", use="sig", kid=KID)],
)
WEB, SYNC, ALICE = "0oa1shopweb2EXAMPLE5d7", "0oa9stocksyncEXAMPLE5d7", "00u1aliceEXAMPLE5d7"
OKTA_TIMES = without(TIMES, "nbf")
user = {
    "ver": 1,
    "jti": "AT.test-only-0001",
    "iss": OKTA,
    "aud": "api://default",
    **OKTA_TIMES,
    "cid": WEB,
    "uid": ALICE,
    "scp": ["openid", "orders.read", "orders.write"],
    "auth_time": ISSUED,
    "sub": "alice@example.com",
    "groups": ["Everyone", "Shop Admins"],
}
service = {
    "ver": 1,
    "jti": "AT.test-only-0002",
    "iss": OKTA,
    "aud": "api://default",
    **OKTA_TIMES,
    "cid": SYNC,
    "scp": ["orders.read"],
    "sub": SYNC,
}
okta.sample(
    "user",
    "a user's token",
    user,
    READS,
    "permit",
    client="shop-web",
    subject=ALICE,
    scopes="orders.read orders.write",
    roles=["shop_admin"],
)
okta.sample("group", "the same user deletes, being in the group", user, DELETES, "permit", roles=["shop_admin"])
okta.sample("service", "client credentials", service, READS, "permit", client="stock-sync", subject=SYNC, scopes="orders.read")
okta.sample(
    "org",
    "a token of the org authorization server",
    {**user, "iss": "https://example.okta.com", "aud": "https://example.okta.com"},
    READS,
    "token.invalid",
    unknown_issuer("https://example.okta.com"),
)
okta.sample(
    "other-audience",
    "the authorization server has another audience",
    {**user, "aud": "https://payments.example.com"},
    READS,
    "token.invalid",
    wrong_audience("https://payments.example.com", "api://default"),
)
id_token = {
    "sub": ALICE,
    "name": "Alice Doe",
    "email": "alice@example.com",
    "ver": 1,
    "iss": OKTA,
    "aud": WEB,
    **OKTA_TIMES,
    "jti": "ID.test-only-0003",
    "amr": ["pwd"],
    "idp": "00o1orgEXAMPLE00005d7",
    "auth_time": ISSUED,
    "at_hash": "dGVzdC1vbmx5LWF0LTE",
}
okta.sample(
    "id-token",
    "an ID token in the place of an access token",
    id_token,
    READS,
    "token.invalid",
    "type: it has at_hash: it is an ID token, wants an access token",
    library="InvalidAudienceError",
)
okta.sample("client-id", "claims.client was left out, and is client_id then", user, READS, "client.unknown", change=["client: cid, ", ""])
okta.sample("no-groups", "the authorization server has no claim groups", without(user, "groups"), DELETES, "acl.role", client="shop-web")

# ── Auth0 ───────────────────────────────────────────────────────────────────────────────────────────────────────────

AUTH0, API = "https://example.eu.auth0.com/", "https://api.example.com"
KID = "test-only-auth0-key-1"
auth0 = Provider(
    "auth0",
    AUTH0,
    [API],
    [("https://auth0.com/docs/secure/tokens/access-tokens/access-token-profiles", "undated; read 2026-11-30")],
    {"alg": "RS256", "typ": "JWT", "kid": KID},
    [jwk(RSA, alg="RS256", use="sig", kid=KID)],
)
WEB, SYNC, ALICE = "shopwebEXAMPLE000000000000000001", "stocksyncEXAMPLE0000000000000002", "auth0|0123456789abcdef01234567"
AUTH0_TIMES = without(TIMES, "nbf")
user = {
    "https://shop.example.com/roles": ["admin"],
    "iss": AUTH0,
    "sub": ALICE,
    "aud": [API, f"{AUTH0}userinfo"],
    **AUTH0_TIMES,
    "scope": "openid profile read:orders write:orders",
    "azp": WEB,
    "permissions": ["read:orders", "write:orders"],
}
machine = {
    "iss": AUTH0,
    "sub": f"{SYNC}@clients",
    "aud": API,
    **AUTH0_TIMES,
    "scope": "read:orders",
    "gty": "client-credentials",
    "azp": SYNC,
}
rfc = {
    "iss": AUTH0,
    "sub": ALICE,
    "aud": [API, f"{AUTH0}userinfo"],
    **AUTH0_TIMES,
    "scope": "openid read:orders",
    "jti": "test-only-0001",
    "client_id": WEB,
}
auth0.sample(
    "user",
    "a user's token, of the Auth0 profile",
    user,
    READS,
    "permit",
    client="shop-web",
    subject=ALICE,
    scopes="read:orders write:orders",
    roles=["shop_admin"],
)
auth0.sample("role", "the same user deletes: an Action has written the role", user, DELETES, "permit", roles=["shop_admin"])
auth0.sample(
    "machine", "machine to machine", machine, READS, "permit", client="stock-sync", subject=f"{SYNC}@clients", scopes="read:orders"
)
auth0.sample(
    "rfc9068",
    "a user's token, of the RFC 9068 profile",
    rfc,
    READS,
    "permit",
    header={"typ": "at+jwt"},
    client="shop-web",
    subject=ALICE,
    scopes="read:orders",
)
encrypted = ".".join(
    [
        b64(json.dumps({"alg": "dir", "enc": "A256GCM", "iss": AUTH0}, separators=(",", ":")).encode()),
        "",
        b64(b"test only 12"),
        b64(b"nobody but Auth0 can read this"),
        b64(b"sixteen bytes..."),
    ]
)
auth0.sample(
    "no-audience",
    "the client has asked without an audience: the token is for Auth0 alone, and encrypted",
    None,
    READS,
    "token.invalid",
    "form: saw five parts, an encrypted token (dir, A256GCM); wants the three parts of a signed JWT",
    token=encrypted,
)
auth0.sample(
    "no-slash",
    "the issuer was written without its slash",
    user,
    READS,
    "token.invalid",
    unknown_issuer(AUTH0),
    change=[AUTH0, AUTH0[:-1]],
    library="ok",
)
auth0.sample(
    "custom-domain",
    "the client goes to the custom domain",
    {**user, "iss": "https://login.example.com/"},
    READS,
    "token.invalid",
    unknown_issuer("https://login.example.com/"),
)
auth0.sample(
    "management",
    "a token for the Management API",
    {**machine, "aud": f"{AUTH0}api/v2/"},
    READS,
    "token.invalid",
    wrong_audience(f"{AUTH0}api/v2/", API),
)
id_token = {
    "nickname": "alice",
    "name": "Alice Doe",
    "email": "alice@example.com",
    "iss": AUTH0,
    "aud": WEB,
    **AUTH0_TIMES,
    "sub": ALICE,
    "sid": "test-only-sid",
    "nonce": "678910",
}
auth0.sample("id-token", "an ID token in the place of an access token", id_token, READS, "token.invalid", wrong_audience(WEB, API))
auth0.sample("hs256", "the API is set to HS256", user, READS, "token.invalid", shared_secret("HS256"), header={"alg": "HS256", "kid": None})

# ── Cognito ─────────────────────────────────────────────────────────────────────────────────────────────────────────

COGNITO = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_EXAMPLE01"
KID = "dGVzdC1vbmx5LWNvZ25pdG8ta2V5MQ="
cognito = Provider(
    "cognito",
    COGNITO,
    None,
    [
        (
            "https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html",
            "undated; awsdocs/amazon-cognito-developer-guide@0b4d546",
        ),
        (
            "https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-tokens-with-identity-providers.html",
            "undated; read 2026-11-30",
        ),
    ],
    {"kid": KID, "alg": "RS256"},
    [jwk(RSA, alg="RS256", use="sig", kid=KID)],
)
WEB, SYNC, ALICE = "5example23456789shopweb001", "1example23456789stocksync0", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
COGNITO_TIMES = without(TIMES, "nbf")
user = {
    "sub": ALICE,
    "cognito:groups": ["admins"],
    "iss": COGNITO,
    "version": 2,
    "client_id": WEB,
    "origin_jti": "aaaaaaaa-bbbb-cccc-dddd-000000000001",
    "token_use": "access",
    "scope": "openid shop-api/orders.read shop-api/orders.write",
    "auth_time": ISSUED,
    **COGNITO_TIMES,
    "jti": "aaaaaaaa-bbbb-cccc-dddd-000000000002",
    "username": "alice",
}
machine = {
    "sub": SYNC,
    "token_use": "access",
    "scope": "shop-api/orders.read",
    "auth_time": ISSUED,
    "iss": COGNITO,
    **COGNITO_TIMES,
    "version": 2,
    "jti": "aaaaaaaa-bbbb-cccc-dddd-000000000003",
    "client_id": SYNC,
}
cognito.sample(
    "user",
    "a user's token, from the hosted pages",
    user,
    READS,
    "permit",
    client="shop-web",
    subject=ALICE,
    scopes="shop-api/orders.read shop-api/orders.write",
    roles=["shop_admin"],
)
cognito.sample("group", "the same user deletes, being in the group", user, DELETES, "permit", roles=["shop_admin"])
cognito.sample("machine", "machine to machine", machine, READS, "permit", client="stock-sync", subject=SYNC, scopes="shop-api/orders.read")
id_token = {
    "sub": ALICE,
    "cognito:groups": ["admins"],
    "email_verified": True,
    "iss": COGNITO,
    "cognito:username": "alice",
    "aud": WEB,
    "at_hash": "dGVzdC1vbmx5LWF0LTI",
    "token_use": "id",
    "auth_time": ISSUED,
    **COGNITO_TIMES,
    "email": "alice@example.com",
    "jti": "aaaaaaaa-bbbb-cccc-dddd-000000000004",
}
cognito.sample(
    "id-token",
    "an ID token in the place of an access token",
    id_token,
    READS,
    "token.invalid",
    "type: it has at_hash: it is an ID token, wants an access token",
)
cognito.sample(
    "id-token-by-api",
    "an ID token from InitiateAuth, which has no at_hash",
    without(id_token, "at_hash"),
    READS,
    "token.invalid",
    "type: token_use is id: it is an ID token, wants an access token",
)
cognito.sample(
    "audience",
    "an audience was asked for",
    user,
    READS,
    "token.invalid",
    wrong_audience("none", API),
    change=["any_audience: true ", f"audience: [{API}] "],
    library="ok",
)
cognito.sample(
    "sdk",
    "the user signed in by InitiateAuth, which gives no scopes of yours",
    {**user, "scope": "aws.cognito.signin.user.admin"},
    READS,
    "scope.missing",
    client="shop-web",
)
cognito.sample(
    "other-app-client", "another app client of the pool", {**user, "client_id": "2another3app4client5EXAMPL"}, READS, "client.unknown"
)
cognito.sample(
    "other-pool",
    "a user of another pool",
    {**user, "iss": COGNITO.replace("EXAMPLE01", "EXAMPLE02")},
    READS,
    "token.invalid",
    unknown_issuer(COGNITO.replace("EXAMPLE01", "EXAMPLE02")),
)

# ── Keycloak ────────────────────────────────────────────────────────────────────────────────────────────────────────

KEYCLOAK = "https://sso.example.com/realms/shop"
KID = "test-only-keycloak-key-1"
keycloak = Provider(
    "keycloak",
    KEYCLOAK,
    ["shop-api"],
    [("https://www.keycloak.org/docs/latest/server_admin/#audience-support", "undated; keycloak/keycloak@4ca4eb5")],
    {"alg": "RS256", "typ": "JWT", "kid": KID},
    [jwk(RSA, kid=KID, alg="RS256", use="sig")],
)
ALICE, SERVICE = "a11ce000-0000-4000-8000-000000000001", "5e5c0000-0000-4000-8000-000000000002"
KEYCLOAK_TIMES = without(TIMES, "nbf")
user = {
    **KEYCLOAK_TIMES,
    "auth_time": ISSUED,
    "jti": "onrtac:70ce0000-0000-4000-8000-000000000003",
    "iss": KEYCLOAK,
    "aud": ["shop-api", "account"],
    "sub": ALICE,
    "typ": "Bearer",
    "azp": "shop-web",
    "sid": "5e550000-0000-4000-8000-000000000004",
    "acr": "1",
    "allowed-origins": ["https://shop.example.com"],
    "realm_access": {"roles": ["default-roles-shop", "offline_access"]},
    "resource_access": {"shop-api": {"roles": ["admin"]}, "account": {"roles": ["view-profile"]}},
    "scope": "openid profile orders_read orders_write",
    "email_verified": True,
    "preferred_username": "alice",
}
service = {
    **KEYCLOAK_TIMES,
    "jti": "trrtcc:70ce0000-0000-4000-8000-000000000005",
    "iss": KEYCLOAK,
    "aud": "shop-api",
    "sub": SERVICE,
    "typ": "Bearer",
    "azp": "stock-sync",
    "acr": "1",
    "scope": "profile orders_read",
    "clientHost": "192.0.2.7",
    "email_verified": False,
    "preferred_username": "service-account-stock-sync",
    "clientAddress": "192.0.2.7",
    "client_id": "stock-sync",
}
keycloak.sample(
    "user",
    "a user's token",
    user,
    READS,
    "permit",
    client="shop-web",
    subject=ALICE,
    scopes="orders_read orders_write",
    roles=["shop_admin"],
)
keycloak.sample(
    "client-role", "the same user deletes, having the role of the client shop-api", user, DELETES, "permit", roles=["shop_admin"]
)
keycloak.sample(
    "service-account", "a service account", service, READS, "permit", client="stock-sync", subject=SERVICE, scopes="orders_read"
)
keycloak.sample(
    "no-sub",
    "the client lacks the scope basic, so there is no sub: the client is the subject",
    without(service, "sub", "auth_time"),
    READS,
    "permit",
    client="stock-sync",
    subject="stock-sync",
)
keycloak.sample(
    "no-audience",
    "no audience mapper: there is nothing but what the roles of the account client bring",
    {**user, "aud": "account"},
    READS,
    "token.invalid",
    wrong_audience("account", "shop-api"),
)
keycloak.sample(
    "inside-name",
    "the token was fetched by Keycloak's name inside the cluster",
    {**service, "iss": "http://keycloak:8080/realms/shop"},
    READS,
    "token.invalid",
    unknown_issuer("http://keycloak:8080/realms/shop"),
)
id_token = {
    **KEYCLOAK_TIMES,
    "auth_time": ISSUED,
    "jti": "70ce0000-0000-4000-8000-000000000006",
    "iss": KEYCLOAK,
    "aud": "shop-web",
    "sub": ALICE,
    "typ": "ID",
    "azp": "shop-web",
    "sid": "5e550000-0000-4000-8000-000000000004",
    "at_hash": "dGVzdC1vbmx5LWF0LTM",
    "acr": "1",
    "preferred_username": "alice",
}
keycloak.sample(
    "id-token",
    "an ID token in the place of an access token",
    id_token,
    READS,
    "token.invalid",
    "type: it has at_hash: it is an ID token, wants an access token",
    library="InvalidAudienceError",
)
keycloak.sample(
    "refresh-token",
    "a refresh token, which Keycloak signs for itself",
    {**without(id_token, "at_hash", "auth_time"), "aud": KEYCLOAK, "typ": "Refresh"},
    READS,
    "token.invalid",
    shared_secret("HS512"),
    header={"alg": "HS512", "kid": "test-only-keycloak-own-key"},
    library="no such key",
)
keycloak.sample(
    "realm-role",
    "the role is one of the realm, and the recipe reads those of the client",
    {**user, "realm_access": {"roles": ["admin"]}, "resource_access": {"account": {"roles": ["view-profile"]}}},
    DELETES,
    "acl.role",
    client="shop-web",
)
keycloak.sample(
    "dpop",
    "the client has proved a key (DPoP), and sends the token as a bearer",
    {**user, "cnf": {"jkt": "dGVzdC1vbmx5LXRodW1icHJpbnQtb2YtYS1rZXktMDE"}},
    READS,
    "token.invalid",
    "binding: it has cnf: bound to a key, which a bearer does not prove",
)

# ── Google ──────────────────────────────────────────────────────────────────────────────────────────────────────────

GOOGLE = "https://accounts.google.com"
GOOGLE_DOCUMENTS = [
    ("https://cloud.google.com/docs/authentication/token-types", "undated; read 2026-11-30"),
    ("https://cloud.google.com/sdk/gcloud/reference/auth/print-identity-token", "undated; read 2026-11-30"),
    ("https://developers.google.com/identity/openid-connect/reference", "undated; read 2026-11-30"),
]
KID = "test-only-google-key-1"
HEADER, KEYS = {"alg": "RS256", "kid": KID, "typ": "JWT"}, [jwk(RSA, alg="RS256", use="sig", kid=KID)]
ACCOUNT, WEB = "112233445566778899001", "123456789012-shopweb.apps.googleusercontent.com"
google = Provider("google", GOOGLE, [API], GOOGLE_DOCUMENTS, HEADER, KEYS)
GOOGLE_TIMES = without(TIMES, "nbf")
service = {
    "aud": API,
    "azp": ACCOUNT,
    "email": "stock-sync@example-project.iam.gserviceaccount.com",
    "email_verified": True,
    "exp": EXPIRES,
    "iat": ISSUED,
    "iss": GOOGLE,
    "sub": ACCOUNT,
}
person = {
    "iss": GOOGLE,
    "azp": WEB,
    "aud": WEB,
    "sub": "100000000000000000007",
    "hd": "example.com",
    "email": "alice@example.com",
    "email_verified": True,
    "at_hash": "dGVzdC1vbmx5LWF0LTQ",
    "nonce": "678910",
    **GOOGLE_TIMES,
}
google.sample("service-account", "an ID token of a service account", service, READS, "permit", client="stock-sync", subject=ACCOUNT)
google.sample(
    "no-email",
    "the same without a mail address, which one has to ask for (--include-email)",
    without(service, "email", "email_verified"),
    READS,
    "permit",
    client="stock-sync",
    subject=ACCOUNT,
)
google.sample(
    "access-token",
    "an access token of Google, which only Google can read",
    None,
    READS,
    "token.invalid",
    "form: saw 2 parts; wants the three parts of a signed JWT",
    token="ya29.a0-test-only-AfB_byC0EXAMPLE0of0an0opaque0token",
)
google.sample(
    "other-audience",
    "the caller has asked with another audience",
    {**service, "aud": "https://shop-abc123-ey.a.run.app"},
    READS,
    "token.invalid",
    wrong_audience("https://shop-abc123-ey.a.run.app", API),
)
google.sample(
    "other-account",
    "another service account: anybody with a project at Google has some",
    {**service, "sub": "998877665544332211009", "azp": "998877665544332211009", "email": "anybody@another-project.iam.gserviceaccount.com"},
    READS,
    "client.unknown",
)
google.sample(
    "user",
    "a user's ID token",
    {**person, "aud": API},
    READS,
    "token.invalid",
    "type: it has at_hash: it is an ID token, wants an access token",
)
google.sample(
    "no-scheme",
    "the issuer as some old tokens have it",
    {**service, "iss": "accounts.google.com"},
    READS,
    "token.invalid",
    unknown_issuer("accounts.google.com"),
)
google.sample(
    "self-signed",
    "a JWT that the service account has signed itself",
    {**service, "iss": service["email"], "sub": service["email"]},
    READS,
    "token.invalid",
    unknown_issuer(service["email"]),
    header={"kid": "serviceaccountkey0example"},
    key=STRANGER,
    library="no such key",
)

google_users = Provider("google-users", GOOGLE, [WEB], GOOGLE_DOCUMENTS, HEADER, KEYS)
google_users.sample("user", "a user's ID token", person, READS, "permit", client="shop-web", subject="100000000000000000007")
google_users.sample(
    "one-tap",
    "the same without at_hash, as Sign in with Google gives it",
    without(person, "at_hash", "nonce"),
    READS,
    "permit",
    client="shop-web",
    subject="100000000000000000007",
)
google_users.sample(
    "other-application",
    "a user's ID token for another application",
    {**person, "aud": "1234567890-other.apps.googleusercontent.com", "azp": "1234567890-other.apps.googleusercontent.com"},
    READS,
    "token.invalid",
    wrong_audience("1234567890-other.apps.googleusercontent.com", WEB),
)
google_users.sample(
    "android",
    "the same user in the Android application of the project: aud is the web application's, azp its own",
    {**person, "azp": "123456789012-android.apps.googleusercontent.com"},
    READS,
    "client.unknown",
)
google_users.sample(
    "private-account",
    "a user with an account of no domain",
    {**without(person, "hd"), "email": "alice@gmail.com"},
    READS,
    "policy.profile",
    client="shop-web",
)
google_users.sample(
    "expired",
    "an ID token lives an hour, and is not renewed by itself",
    {**person, "exp": ISSUED + 3600},
    READS,
    "token.invalid",
    "expired",
)

# ── GitHub Actions ──────────────────────────────────────────────────────────────────────────────────────────────────

GITHUB = "https://token.actions.githubusercontent.com"
KID = "test-only-github-key-1"
github = Provider(
    "github",
    GITHUB,
    [API],
    [
        ("https://docs.github.com/en/actions/concepts/security/openid-connect", "undated; github/docs@0a760a3"),
        ("https://docs.github.com/en/actions/reference/security/oidc", "undated; github/docs@051718f, of after July 2026"),
    ],
    {"typ": "JWT", "alg": "RS256", "x5t": "test-only-x5t", "kid": KID},
    [jwk(RSA, alg="RS256", use="sig", kid=KID, x5t="test-only-x5t")],
)
job = {
    "jti": "70ce0000-0000-4000-8000-000000000007",
    "sub": "repo:octo-org/octo-repo:environment:production",
    "environment": "production",
    "aud": API,
    "ref": "refs/heads/main",
    "sha": "0123456789abcdef0123456789abcdef01234567",
    "repository": "octo-org/octo-repo",
    "repository_owner": "octo-org",
    "actor_id": "12",
    "repository_visibility": "private",
    "repository_id": "74",
    "repository_owner_id": "65",
    "run_id": "9876543210",
    "run_number": "10",
    "run_attempt": "2",
    "runner_environment": "github-hosted",
    "actor": "octocat",
    "workflow": "deploy",
    "head_ref": "",
    "base_ref": "",
    "event_name": "workflow_dispatch",
    "ref_type": "branch",
    "job_workflow_ref": "octo-org/octo-automation/.github/workflows/oidc.yml@refs/heads/main",
    "iss": GITHUB,
    **TIMES,
}
IMMUTABLE = "repo:octo-org@65/octo-repo@74:environment:production"
github.sample("environment", "a job with an environment", job, READS, "permit", client="shop-deploy", subject=job["sub"])
github.sample(
    "immutable",
    "the same in a repository with immutable subjects",
    {**job, "sub": IMMUTABLE},
    READS,
    "permit",
    client="shop-deploy",
    subject=IMMUTABLE,
)
on_branch = {**without(job, "environment"), "sub": "repo:octo-org/octo-repo:ref:refs/heads/main"}
github.sample("no-environment", "a job of the main branch without an environment", on_branch, READS, "policy.profile", client="shop-deploy")
github.sample(
    "default-audience",
    "the workflow has named no audience",
    {**job, "aud": "https://github.com/octo-org"},
    READS,
    "token.invalid",
    wrong_audience("https://github.com/octo-org", API),
)
github.sample(
    "other-repository",
    "a workflow of another repository: anybody at GitHub has such tokens",
    {
        **job,
        "repository": "mallory/octo-repo",
        "repository_owner": "mallory",
        "repository_id": "4711",
        "repository_owner_id": "666",
        "sub": "repo:mallory/octo-repo:environment:production",
    },
    READS,
    "client.unknown",
)
github.sample(
    "pull-request",
    "a job of a pull request",
    {
        **without(job, "environment"),
        "sub": "repo:octo-org/octo-repo:pull_request",
        "event_name": "pull_request",
        "ref": "refs/pull/5/merge",
        "head_ref": "topic",
        "base_ref": "main",
    },
    READS,
    "policy.profile",
    client="shop-deploy",
)
github.sample(
    "client-is-sub",
    "sub was taken for the client, and the repository went over to immutable subjects",
    {**job, "sub": IMMUTABLE},
    READS,
    "client.unknown",
    change=["client: repository_id", "client: sub"],
)

# ── Kubernetes ──────────────────────────────────────────────────────────────────────────────────────────────────────

CLUSTER = "https://kubernetes.default.svc.cluster.local"
KID = "test-only-kubernetes-key-1"
kubernetes = Provider(
    "kubernetes",
    CLUSTER,
    [API],
    [
        (
            "https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/",
            "undated; of Kubernetes 1.33 or later, read 2026-11-30",
        )
    ],
    {"alg": "RS256", "kid": KID},
    [jwk(RSA, use="sig", kid=KID, alg="RS256")],
)
POD = {
    "namespace": "shop",
    "node": {"name": "worker-1", "uid": "0de00000-0000-4000-8000-000000000001"},
    "pod": {"name": "stock-sync-0", "uid": "90d00000-0000-4000-8000-000000000002"},
    "serviceaccount": {"name": "stock-sync", "uid": "5a000000-0000-4000-8000-000000000003"},
}
pod = {
    "aud": [API],
    "exp": EXPIRES,
    "iat": ISSUED,
    "iss": CLUSTER,
    "jti": "70ce0000-0000-4000-8000-000000000008",
    "kubernetes.io": POD,
    "nbf": ISSUED,
    "sub": "system:serviceaccount:shop:stock-sync",
}
kubernetes.sample(
    "projected",
    "out of a projected volume of a pod",
    pod,
    READS,
    "permit",
    client="stock-sync",
    subject="system:serviceaccount:shop:stock-sync",
)
kubernetes.sample(
    "created",
    "by kubectl create token --audience",
    {**pod, "kubernetes.io": without(POD, "pod", "node")},
    READS,
    "permit",
    client="stock-sync",
    subject="system:serviceaccount:shop:stock-sync",
)
kubernetes.sample(
    "default-audience",
    "the token that every pod has, which is for the API server",
    {**pod, "aud": [CLUSTER], "kubernetes.io": {**POD, "warnafter": ISSUED + 3607}},
    READS,
    "token.invalid",
    wrong_audience(CLUSTER, API),
)
legacy = {
    "iss": "kubernetes/serviceaccount",
    "kubernetes.io/serviceaccount/namespace": "shop",
    "kubernetes.io/serviceaccount/secret.name": "stock-sync-token-00000",
    "kubernetes.io/serviceaccount/service-account.name": "stock-sync",
    "kubernetes.io/serviceaccount/service-account.uid": "5a000000-0000-4000-8000-000000000003",
    "sub": "system:serviceaccount:shop:stock-sync",
}
kubernetes.sample(
    "secret",
    "the old kind of token, out of a Secret: without aud and exp",
    legacy,
    READS,
    "token.invalid",
    unknown_issuer("kubernetes/serviceaccount"),
    library="MissingRequiredClaimError",
)
kubernetes.sample(
    "default-account",
    "the pod has no serviceAccountName",
    {
        **pod,
        "sub": "system:serviceaccount:shop:default",
        "kubernetes.io": {**POD, "serviceaccount": {"name": "default", "uid": "5a000000-0000-4000-8000-000000000004"}},
    },
    READS,
    "client.unknown",
)
OTHER = {**pod, "sub": "system:serviceaccount:batch:stock-sync", "kubernetes.io": {**POD, "namespace": "batch"}}
kubernetes.sample("reads", "the account of the same name in another namespace reads", OTHER, READS, "permit", client="stock-sync")
kubernetes.sample("deletes", "the account of the namespace shop deletes", pod, DELETES, "permit", client="stock-sync")
kubernetes.sample(
    "other-namespace", "the account of the same name in another namespace deletes", OTHER, DELETES, "policy.profile", client="stock-sync"
)
kubernetes.sample(
    "kept",
    "the application has read the file once and kept what was in it",
    {**pod, "exp": ISSUED + 3600},
    READS,
    "token.invalid",
    "expired",
)
kubernetes.sample(
    "other-cluster",
    "the same account of another cluster, which has the same issuer by default",
    pod,
    READS,
    "token.invalid",
    "key_unknown: no key has the kid `another-cluster`",
    header={"kid": "another-cluster"},
    key=STRANGER,
    library="no such key",
)

# ── SPIFFE ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SPIRE, WORKLOAD = "https://oidc.example.org", "spiffe://example.org/ns/shop/sa/stock-sync"
KID = "test-only-spire-key-1"
spiffe = Provider(
    "spiffe",
    SPIRE,
    [API],
    [
        ("https://github.com/spiffe/spiffe/blob/main/standards/JWT-SVID.md", "undated; spiffe/spiffe@06522fa"),
        ("https://github.com/spiffe/spire/blob/main/doc/spire_server.md", "undated; spiffe/spire@0005011"),
    ],
    {"alg": "ES256", "kid": KID, "typ": "JWT"},
    [jwk(EC, use="jwt-svid", kid=KID)],
    EC,
)
svid = {"aud": [API], "exp": EXPIRES, "iat": ISSUED, "iss": SPIRE, "sub": WORKLOAD}
spiffe.sample("svid", "a JWT-SVID of SPIRE", svid, READS, "permit", client="stock-sync", subject=WORKLOAD)
spiffe.sample(
    "jose",
    "one with the other typ that the standard allows",
    svid,
    READS,
    "permit",
    header={"typ": "JOSE"},
    client="stock-sync",
    subject=WORKLOAD,
)
spiffe.sample(
    "no-typ", "one without typ", {**svid, "aud": API}, READS, "permit", header={"typ": None}, client="stock-sync", subject=WORKLOAD
)
spiffe.sample(
    "no-iss",
    "the SPIRE server has no jwt_issuer: the standard asks for no iss",
    without(svid, "iss"),
    READS,
    "token.invalid",
    "issuer: saw no iss, which is no issuer's here",
    library="MissingRequiredClaimError",
)
spiffe.sample(
    "trust-domain",
    "the trust domain in the place of the issuer",
    {**svid, "iss": "spiffe://example.org"},
    READS,
    "token.invalid",
    unknown_issuer("spiffe://example.org"),
)
spiffe.sample(
    "other-audience",
    "the SVID was made for another service",
    {**svid, "aud": ["spiffe://example.org/reports"]},
    READS,
    "token.invalid",
    wrong_audience("spiffe://example.org/reports", API),
)
spiffe.sample(
    "other-workload",
    "another workload of the trust domain",
    {**svid, "sub": "spiffe://example.org/ns/shop/sa/default"},
    READS,
    "client.unknown",
)
spiffe.sample(
    "typ-jose",
    "token_types was left out",
    svid,
    READS,
    "token.invalid",
    "type: saw jose, wants one of at+jwt, jwt",
    header={"typ": "JOSE"},
    change=["    token_types: [JWT, JOSE]\n", ""],
)

# ── Zitadel ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ZITADEL, PROJECT, WEB, ALICE = "https://shop-x1y2z3.zitadel.cloud", "300000000000000001", "300000000000000002", "300000000000000011"
# The roles of the project that the client asks for, and those of the client's own project.
ROLES, OWN_ROLES, KID = f"urn:zitadel:iam:org:project:{PROJECT}:roles", "urn:zitadel:iam:org:project:roles", "test-only-zitadel-key-1"
BOTH = {"reader": {"200000000000000001": "corp.zitadel.cloud"}, "admin": {"200000000000000001": "corp.zitadel.cloud"}}
zitadel = Provider(
    "zitadel",
    ZITADEL,
    [PROJECT],
    [
        ("https://zitadel.com/docs/apis/openidoauth/claims", "undated; zitadel/zitadel@012fff9"),
        ("https://zitadel.com/docs/guides/integrate/retrieve-user-roles", "undated; read 2026-11-30"),
    ],
    {"alg": "RS256", "kid": KID, "typ": "JWT"},
    [jwk(RSA, use="sig", kid=KID, alg="RS256")],
)
user = {
    "iss": ZITADEL,
    "sub": ALICE,
    "aud": [WEB, "300000000000000003", PROJECT],
    **TIMES,
    "azp": WEB,
    "jti": "300000000000000021",
    OWN_ROLES: BOTH,
    ROLES: BOTH,
}
service = {
    "iss": ZITADEL,
    "sub": "300000000000000012",
    "aud": [PROJECT],
    **TIMES,
    "azp": "stock-sync",
    "jti": "300000000000000022",
    ROLES: {"reader": {"200000000000000001": "corp.zitadel.cloud"}},
}
zitadel.sample("user", "a user's token", user, READS, "permit", client="shop-web", subject=ALICE, roles=["shop_admin", "shop_reader"])
zitadel.sample("role", "the same user deletes, being an admin", user, DELETES, "permit", roles=["shop_admin", "shop_reader"])
zitadel.sample(
    "service", "a service user", service, READS, "permit", client="stock-sync", subject="300000000000000012", roles=["shop_reader"]
)
zitadel.sample(
    "client-id",
    "a token that names its client as client_id",
    {**without(service, "azp"), "client_id": "stock-sync"},
    READS,
    "permit",
    client="stock-sync",
)
zitadel.sample(
    "opaque",
    "the application is set to bearer tokens, which only Zitadel can read",
    None,
    READS,
    "token.invalid",
    "form: saw no dot, as in an opaque token; wants the three parts of a signed JWT, or `introspection`",
    token="Kq3mVEhXtest-only-9sXQ2bJmCq0EXAMPLE-of-an-opaque-token-of-Zitadel",
)
zitadel.sample("no-roles", "nobody has asked for the roles", without(user, ROLES, OWN_ROLES), READS, "policy.profile", client="shop-web")
zitadel.sample(
    "own-roles",
    "the token has the roles of the client's own project, which may be another",
    {**without(service, ROLES), OWN_ROLES: BOTH},
    READS,
    "policy.profile",
    client="stock-sync",
)
zitadel.sample(
    "other-project",
    "the client is of another project and has not asked for this one",
    {**service, "aud": ["stock-sync", "300000000000000009"]},
    READS,
    "token.invalid",
    wrong_audience("stock-sync, 300000000000000009", PROJECT),
)
id_token = {
    "iss": ZITADEL,
    "sub": ALICE,
    "aud": [WEB, "300000000000000003", PROJECT],
    **TIMES,
    "auth_time": ISSUED,
    "amr": ["pwd"],
    "azp": WEB,
    "at_hash": "dGVzdC1vbmx5LWF0LTU",
    "sid": "V1_300000000000000031",
}
zitadel.sample(
    "id-token",
    "an ID token, whose aud has the project too",
    id_token,
    READS,
    "token.invalid",
    "type: it has at_hash: it is an ID token, wants an access token",
)
zitadel.sample(
    "roles-list",
    "the roles as a list of objects, as the claims page shows them",
    {**user, ROLES: [{"admin": {"200000000000000001": "corp.zitadel.cloud"}}]},
    READS,
    "policy.profile",
    client="shop-web",
    unread_claims=[ROLES],
)

for provider in (entra, entra_v1, okta, auth0, cognito, keycloak, google, google_users, github, kubernetes, spiffe, zitadel):
    provider.write()
