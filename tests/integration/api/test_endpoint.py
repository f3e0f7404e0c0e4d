"""GraphQL over HTTP: media types, limits, denials; nothing a stranger sends breaks the server."""

import asyncio
import json
import logging
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.oauth.scopes import Role
from gateway.telemetry import metrics

GRAPHQL = "application/graphql-response+json"
QUERY = "{ programmes { id } }"


@pytest.fixture
def seeded_url(sqlite_seeded: Path, tmp_path: Path) -> str:
    """One kind of database is enough: the protocol does not reach it."""
    shutil.copyfile(sqlite_seeded, tmp_path / "gateway.db")
    return f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}"


@pytest.fixture
async def send(gateway):
    """Post a body, or anything, with a good token."""
    token = await gateway.token(Role.MEMBER, member="mbr_demo_01")

    async def post(body=None, *, raw: bytes | None = None, method="POST", **headers):
        given = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = json.dumps(body).encode() if raw is None else raw
        return await gateway.http.request(
            method, f"{gateway.base}/graphql", content=content, headers=given
        )

    return post


def codes(answer) -> list[str]:
    assert "data" not in answer.json()
    return [error["extensions"]["code"] for error in answer.json()["errors"]]


async def test_the_answers_type_is_the_one_asked_for(send):
    plain = await send({"query": QUERY})
    assert plain.headers["content-type"] == "application/json; charset=utf-8"
    newer = await send({"query": QUERY}, accept=f"{GRAPHQL}, application/json;q=0.9")
    assert newer.headers["content-type"] == f"{GRAPHQL}; charset=utf-8"
    assert newer.json()["extensions"]["cost"] == {"requested": 1, "limit": 5000}
    assert newer.headers["x-request-id"] == newer.json()["extensions"]["requestId"]
    assert (await send({"query": QUERY}, accept="text/html")).status_code == 406


@pytest.mark.parametrize(
    ("body", "raw", "headers", "status"),
    [
        (None, b"{", {}, 400),
        (None, b"", {}, 400),
        (None, b"[" * 30_000, {}, 400),
        (None, b'{"query": "\xff"}', {}, 400),
        (None, b'{"query": "{ a }", "variables": {"x": NaN}}', {}, 400),
        ([{"query": QUERY}], None, {}, 400),
        ({}, None, {}, 400),
        ({"query": 7}, None, {}, 400),
        ({"query": QUERY, "variables": []}, None, {}, 400),
        ({"query": QUERY, "operationName": 7}, None, {}, 400),
        ({"query": QUERY, "extensions": "x"}, None, {}, 400),
        ({"query": QUERY}, None, {"content_type": "text/plain"}, 415),
        ({"query": QUERY}, None, {"content_type": "application/json; charset=utf-16"}, 415),
        ({"query": QUERY}, None, {"content_type": "multipart/form-data"}, 415),
        ({"query": "#" * 70_000}, None, {}, 413),
    ],
)
async def test_a_request_that_cannot_be_read_is_malformed(send, body, raw, headers, status):
    answer = await send(body, raw=raw, **headers)
    assert answer.status_code == status
    assert codes(answer) == ["MALFORMED_REQUEST"]


DOCUMENTS = [
    "{",
    "{ noSuchField }",
    '{ offers(first: "ten") { edges { cursor } } }',
    "{ offer { id } }",
    "query A { __typename } query B { __typename }",
    "subscription { x }",
    "fragment F on Query { __typename }",
    "{ ...F } fragment F on Query { ...F }",
]


@pytest.mark.parametrize("query", DOCUMENTS)
async def test_a_bad_document_is_malformed_with_the_status_of_its_media_type(send, query):
    newer = await send({"query": query}, accept=GRAPHQL)
    assert (newer.status_code, codes(newer)) == (400, ["MALFORMED_REQUEST"])
    plain = await send({"query": query}, accept="application/json")
    assert (plain.status_code, codes(plain)) == (200, ["MALFORMED_REQUEST"])


async def test_every_error_of_a_document_is_told_with_its_place(send):
    answer = await send({"query": "{\n  nothing\n  offers { nowhere }\n}"}, accept=GRAPHQL)
    assert codes(answer) == ["MALFORMED_REQUEST"] * 2
    places = [error["locations"] for error in answer.json()["errors"]]
    assert places == [[{"line": 2, "column": 3}], [{"line": 3, "column": 12}]]
    broken = (await send({"query": "{ offers("}, accept=GRAPHQL)).json()["errors"]
    assert [error["locations"] for error in broken] == [[{"line": 1, "column": 10}]]
    many = " ".join(f"n{number}" for number in range(40))
    assert len(codes(await send({"query": f"{{ {many} }}"}, accept=GRAPHQL))) == 10
    typed = "query Q($first: Int!) { offers(first: $first) { edges { cursor } } }"
    (wrong,) = (await send({"query": typed, "variables": {"first": "x"}})).json()["errors"]
    assert wrong["locations"] == [{"line": 1, "column": 9}]


@pytest.mark.parametrize("points", [1.5, "100", True, 2**63, "9" * 30])
async def test_an_amount_that_is_no_integer_is_malformed(gateway, points):
    member = await gateway.member("mbr_demo_01")
    answer = await member.ask(
        'mutation($points: Points!) { donatePoints(input: {beneficiary: "M16",'
        ' programme: "P-LL", points: $points, idempotencyKey: "k"}) { replayed } }',
        points=points,
    )
    assert answer.codes == ["MALFORMED_REQUEST"]


async def test_suggestions_are_not_given(send):
    answer = await send({"query": "{ programme { id } }"})
    assert "programmes" not in answer.text


async def test_a_get_may_ask_but_never_do(gateway):
    token = await gateway.token(Role.MEMBER, member="mbr_demo_01")
    headers = {"authorization": f"Bearer {token}"}
    asked = await gateway.http.get(
        f"{gateway.base}/graphql",
        params={
            "query": "query($id: ID!) { offer(id: $id) { id } }",
            "variables": '{"id":"XH-01"}',
        },
        headers=headers,
    )
    assert asked.json()["data"] == {"offer": {"id": "XH-01"}}
    mutation = 'mutation { releaseRedemption(input: {redemption: "r", idempotencyKey: "k"}) '
    done = await gateway.http.get(
        f"{gateway.base}/graphql", params={"query": mutation + "{ replayed } }"}, headers=headers
    )
    assert done.status_code == 405
    assert done.headers["allow"] == "POST"


@pytest.mark.parametrize("authorization", ["Bearer x.y.z", "Basic abc", "Bearer", "nonsense"])
async def test_a_wrong_token_is_unauthenticated(send, authorization):
    answer = await send({"query": QUERY}, authorization=authorization)
    assert (answer.status_code, codes(answer)) == (401, ["UNAUTHENTICATED"])
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_an_expired_token_is_unauthenticated(gateway, send):
    token = await gateway.token(Role.MEMBER, member="mbr_demo_01", seconds=-1)
    answer = await send({"query": QUERY}, authorization=f"Bearer {token}")
    assert (answer.status_code, codes(answer)) == (401, ["UNAUTHENTICATED"])


async def test_a_missing_scope_is_named_and_nothing_runs(gateway, send):
    token = await gateway.token(Role.MEMBER, member="mbr_demo_01", scope="catalog:read")
    answer = await send(
        {"query": "{ programmes { id } me { id } }"}, authorization=f"Bearer {token}"
    )
    assert (answer.status_code, codes(answer)) == (403, ["SCOPE_MISSING"])
    error = answer.json()["errors"][0]
    assert error["message"] == "缺少权限 points:read"
    assert error["extensions"]["context"] == {"scope": "points:read"}
    assert error["extensions"]["requestId"].startswith("req_")
    assert 'error="insufficient_scope", scope="points:read"' in answer.headers["www-authenticate"]


async def test_another_role_is_forbidden_also_through_a_fragment(gateway):
    finance = await gateway.staff(Role.FINANCE, "usr_fin_maker")
    answer = await finance.ask("{ ...F } fragment F on Query { ... on Query { me { id } } }")
    assert (answer.status, answer.codes) == (403, ["ROLE_FORBIDDEN"])


async def test_too_dear_a_query_says_what_to_drop(gateway):
    member = await gateway.member("mbr_demo_01")
    member.language = "en"
    answer = await member.ask(
        "query($n: Int!) { offers(first: $n) { edges { node { id prices { points } } } } }", n=9000
    )
    assert answer.codes == ["QUERY_TOO_EXPENSIVE"]
    (error,) = answer.body["errors"]
    assert error["message"] == ("cost 27001, limit 5000; without offers.edges it is 1")


async def test_the_whole_schema_can_be_introspected_in_the_sandbox(gateway):
    from graphql import build_client_schema, get_introspection_query

    answer = await gateway.anonymous().ask(get_introspection_query())
    assert build_client_schema(answer.data).get_type("Redemption")


async def test_a_bug_is_hidden_and_its_request_can_be_found(gateway, monkeypatch, caplog):
    from gateway.api import catalog_query

    async def broken(*_args, **_more):
        raise RuntimeError("the secret text of a bug")

    monkeypatch.setattr(catalog_query.points, "programmes", broken)
    member = await gateway.member("mbr_demo_01")
    answer = await member.ask("{ programmes { id } coalition { nameZh } }")
    assert answer.codes == ["INTERNAL"]
    (error,) = answer.body["errors"]
    assert "secret" not in json.dumps(answer.body, ensure_ascii=False)
    assert error["extensions"]["requestId"] in error["message"]
    assert "the secret text of a bug" in caplog.text
    assert error["extensions"]["requestId"] in caplog.text


@pytest.mark.parametrize("locale", ["zh", "en"])
async def test_a_bug_of_any_route_is_hidden_and_can_be_found(gateway, monkeypatch, caplog, locale):
    from gateway.oauth import server

    def broken(*_args, **_more):
        raise RuntimeError("the secret text of a bug")

    monkeypatch.setattr(server, "Core", broken)
    asked = {"grant_type": "client_credentials"}
    headers = {"accept-language": locale}
    answer = await gateway.http.post(f"{gateway.base}/oauth/token", data=asked, headers=headers)
    assert answer.status_code == 500
    assert "secret" not in answer.text
    (error,) = answer.json()["errors"]
    assert error["extensions"]["code"] == "INTERNAL"
    shown = error["extensions"]["requestId"]
    assert shown == answer.headers["x-request-id"]
    assert shown in error["message"]
    assert f"request {shown} failed" in caplog.text
    assert "the secret text of a bug" in caplog.text


async def test_a_client_that_goes_while_it_sends_is_no_fault(gateway, caplog):
    place = urlsplit(gateway.base)
    counted = metrics.HTTP.labels("/oauth/token", "499")._value
    before = counted.get()
    _, writer = await asyncio.open_connection(place.hostname, place.port)
    head = "POST /oauth/token HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n\r\ngrant_type=x"
    writer.write(head.encode())
    await writer.drain()
    await asyncio.sleep(0.1)  # It has begun to read.
    writer.close()
    async with asyncio.timeout(30):
        while counted.get() == before:
            await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
