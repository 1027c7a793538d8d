"""Envoy's external authorization by a client that is generated from Envoy's own files (xds-protos).

DECIDE is the address of a listener with `decide: envoy_grpc`; TOKEN may read /orders/{id}, OTHER may not.
"""

from concurrent.futures import ThreadPoolExecutor

import grpc
from envoy.service.auth.v3 import external_auth_pb2 as messages
from envoy.service.auth.v3 import external_auth_pb2_grpc as stubs
from google.protobuf import json_format

from steps import expect, ok, run, setting

CHANNEL = grpc.insecure_channel(setting("DECIDE"))
STUB = stubs.AuthorizationStub(CHANNEL)
TOKEN = setting("TOKEN")
OTHER = setting("OTHER")


def question(target="/orders/7", token=TOKEN, method="GET", raw=True, lines=(), change=None):
    asked = messages.CheckRequest()
    attributes = asked.attributes
    attributes.source.address.socket_address.address = "192.0.2.7"
    attributes.source.address.socket_address.port_value = 4711
    http = attributes.request.http
    http.method, http.path, http.host, http.scheme = method, target, "api.example", "https"
    http.protocol, http.size = "HTTP/1.1", -1
    all_lines = [(":method", method), (":path", target), (":authority", "api.example"), ("accept", "*/*")]
    if token:
        all_lines.append(("authorization", f"Bearer {token}"))
    all_lines.extend(lines)
    for name, value in all_lines:
        if raw:
            http.header_map.headers.add(key=name, raw_value=value.encode())
        else:
            http.headers[name] = value
    if change:
        change(attributes)
    return asked


def check(**asked):
    return STUB.Check(question(**asked), timeout=60)


def reason(answer):
    metadata = json_format.MessageToDict(answer.dynamic_metadata)
    return answer.denied_response.status.code, metadata.get("reason")


def permits():
    for raw in (True, False):
        answer = check(raw=raw, lines=[("x-auth-client", "evil"), ("x-envoy-retry-on", "5xx"), ("cookie", "a=1; scopegate=x")])
        expect(answer.status.code == 0 and answer.HasField("ok_response"), answer)
        said = {option.header.key: option.header.value for option in answer.ok_response.headers}
        expect(said["x-auth-client"] == "app" and said["cookie"] == "a=1", said)
        removed = set(answer.ok_response.headers_to_remove)
        for name in ("authorization", "x-auth-roles", "x-auth-assertion", "x-envoy-retry-on", "x-real-ip"):
            expect(name in removed, removed)
        expect(not removed & set(said), removed & set(said))
        told = {option.header.key: option.header.value for option in answer.ok_response.response_headers_to_add}
        facts = json_format.MessageToDict(answer.dynamic_metadata)
        expect(told["x-decision-id"] == facts["decision_id"] == said["x-decision-id"], facts)
        expect((facts["api"], facts["client"], facts["scopes"]) == ("orders", "app", ["read"]), facts)
    ok("a permit says who calls, what to remove, and its facts")


def refuses():
    for asked, wanted in [
        ({"token": None}, (401, "token.missing")),
        ({"token": "nonsense"}, (401, "token.invalid")),
        ({"token": OTHER}, (403, "scope.missing")),
        ({"method": "DELETE"}, (403, "scope.unscoped")),
        ({"method": "PUT"}, (405, "operation.method")),
        ({"target": "/nothing"}, (404, "operation.unknown")),
        ({"target": "/busy/x"}, (503, "operation.maintenance")),
        ({"target": "/oauth2/token"}, (404, "operation.unknown")),
        ({"target": "/orders/%37"}, (400, "path.ambiguous")),
        ({"target": "/orders/7#x"}, (400, "path.ambiguous")),
        ({"lines": [("authorization", f"Bearer {OTHER}")]}, (400, "token.several")),
    ]:
        answer = check(**asked)
        expect(answer.status.code != 0 and reason(answer) == wanted, f"{asked}: {reason(answer)}")
        headers = {option.header.key: option.header.value for option in answer.denied_response.headers}
        expect("x-decision-id" in headers and wanted[1] in answer.denied_response.body, answer)
        expect(wanted[0] != 401 or headers["www-authenticate"].startswith("Bearer "), headers)
    ok("every refusal has its status, its reason, and its challenge")


def guesses_nothing():
    def without_source(attributes):
        attributes.ClearField("source")

    def pipe(attributes):
        attributes.source.address.pipe.path = "/x"

    def other_path(attributes):
        attributes.request.http.path = "/orders/open"

    def query(attributes):
        attributes.request.http.query = "a=b"

    def fragment(attributes):
        attributes.request.http.fragment = "x"

    def twice(attributes):
        attributes.request.http.headers["accept"] = "*/*"

    def no_host(attributes):
        attributes.request.http.host = ""

    def no_method(attributes):
        attributes.request.http.method = ""

    def elsewhere(attributes):
        attributes.context_extensions["upstream"] = "other"

    bad = [{"change": change} for change in (without_source, pipe, other_path, query, fragment, twice, no_host, no_method)]
    for name in ("X-Auth-Client", "x_auth_client", "x.auth.client", "x-original-upstream", "x_envoy_retry_on", "a b", ""):
        bad.append({"lines": [(name, "evil")]})
    bad.append({"lines": [("accept", "a\r\nx: y")]})
    bad.append({"lines": [("x-forwarded-for", "10.0.0.1")]})
    bad.append({"lines": [("x-forwarded-for", "192.0.2.7"), ("x_forwarded_for", "192.0.2.7")]})
    for asked in bad:
        answer = check(**asked)
        expect(reason(answer) == (400, "request.malformed"), f"{asked}: {reason(answer)}")
    expect(reason(check(change=elsewhere)) == (500, "gateway.broken"), "another upstream")
    expect(check(lines=[("x-forwarded-for", "10.0.0.1, 192.0.2.7")]).status.code == 0, "an appended address")
    ok("nothing is guessed")


def no_question():
    raw = CHANNEL.unary_unary("/envoy.service.auth.v3.Authorization/Check")
    other = CHANNEL.unary_unary("/envoy.service.auth.v3.Authorization/Other")
    for call, message, wanted in [
        (raw, b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (raw, b"", grpc.StatusCode.INVALID_ARGUMENT),
        (raw, question(lines=[("x-a", "a" * 500_000)]).SerializeToString(), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (other, b"", grpc.StatusCode.UNIMPLEMENTED),
    ]:
        try:
            answer = call(message, timeout=60)
            expect(False, f"answered {answer}")
        except grpc.RpcError as error:
            expect(error.code() == wanted, f"{error.code()}, wanted {wanted}")
    # A head over the limit that is still a message.
    expect(reason(check(lines=[("x-a", "a" * 40_000)])) == (431, "request.headers"), "a large head")
    ok("what is no question is told so")


def many_at_once():
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda n: check(token=TOKEN if n % 2 else OTHER).status.code == 0, range(600)))
    expect(answers == [bool(n % 2) for n in range(600)], "an answer of another question")
    ok("questions at once get their own answers")


run([permits, refuses, guesses_nothing, no_question, many_at_once])
