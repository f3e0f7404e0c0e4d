"""The hotel group's subgraph on Node and in Python: one schema, the same answers and refusals."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from gateway.api.schema import ours
from gateway.subgraphs.composing import Verdict, judge, put_together
from gateway.subgraphs.model import Submitted, prefix_of
from partners.simulators.hotel_graph.desk import SDL
from tests.support.hotel_graph import NODE, PYTHON, Hotel, hotel, issuer
from tests.support.processes import reserve

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOMS = "__typename id yunqi_depositFen yunqi_evening { __typename id } yunqi_rooms(beds: $beds)"
ASKED = {
    "houses": (
        "{ yunqi_houses { __typename id nameZh rooms { __typename code beds } } }",
        {},
    ),
    "houses of a city": ('{ yunqi_houses(city: "杭州") { id city } none: yunqi_houses(city: "")'
                         " { id } nowhere: yunqi_houses(city: \"x\") { id } }", {}),
    "offers": (
        f"query($of: [_Any!]!, $beds: Yunqi_Beds) {{ _entities(representations: $of) {{"
        f" ... on Offer {{ {ROOMS} {{ code squareMetres house {{ nameZh }}"
        " ... on Yunqi_Standard { desk } ... on Yunqi_Suite { view } } } } }",
        {"of": [
            {"__typename": "Offer", "id": "YQ-01", "cashFen": 50_000},
            {"__typename": "Offer", "id": "YQ-02", "cashFen": 20_001},
            {"__typename": "Offer", "id": "XH-01", "cashFen": 4_500},
        ], "beds": "KING"},
    ),
    "entities by a nested key": (
        "query($of: [_Any!]!) { _entities(representations: $of) {"
        " ... on Yunqi_Suite { view house { city } } ... on Yunqi_House { rooms { code } }"
        " ... on Merchant { id yunqi_welcome } } }",
        {"of": [
            {"__typename": "Yunqi_Suite", "code": "X1", "house": {"id": "bund"}},
            {"__typename": "Yunqi_Suite", "code": "X1", "house": {"id": "lake"}},
            {"__typename": "Yunqi_House", "id": "lake"},
            {"__typename": "Merchant", "id": "M03", "nameZh": "云栖酒店集团"},
            {"__typename": "Merchant", "id": "M05", "nameZh": "星汇影城"},
        ]},
    ),
    "doors": (
        "query($of: [_Any!]!) { _entities(representations: $of) { ... on Redemption {"
        " yunqi_stay { door offers { id } } } } }",
        {"of": [{"__typename": "Redemption", "id": each} for each in ("red_1", "red_2", "red_1")]},
    ),
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def issued_by() -> AsyncIterator[str]:
    async with issuer() as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[PYTHON, NODE])
async def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, issued_by: str
) -> AsyncIterator[Hotel]:
    folder = tmp_path_factory.mktemp(request.param)
    async with hotel(request.param, folder, issued_by) as made:
        assert made.runs.startswith(request.param)
        yield made


def composed(sdl: str) -> list[str]:
    """The lines of what a subgraph makes of our schema, in one order."""
    made = put_together(ours(), [Submitted("M03", "https://x.example/subgraph", sdl)])
    assert not isinstance(made, Verdict)
    return sorted(made[0].splitlines())


async def test_both_say_the_schema_that_is_published(service: Hotel) -> None:
    told = (await service.ask("{ _service { sdl } }")).json()["data"]["_service"]["sdl"]
    assert composed(told) == composed(SDL)


async def test_the_published_schema_breaks_no_rule() -> None:
    verdict = judge(
        Submitted("M03", "https://x.example/subgraph", SDL),
        prefix=prefix_of("yunqi", "M03"),
        ours=ours(),
        others=[],
        before=ours().schema,
        operations=[],
    )
    assert (verdict.told(), list(verdict.hints), verdict.impact.breaking) == ([], [], False)


EXPECTED = json.loads((Path(__file__).parent / "data/hotel_graph.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("what", ASKED)
async def test_both_answer_the_same(service: Hotel, what: str) -> None:
    query, variables = ASKED[what]
    answer = await service.ask(query, **variables)
    assert answer.status_code == 200
    assert answer.json() == {"data": EXPECTED[what]}


async def test_what_is_required_and_not_sent_is_an_error_of_that_field(service: Hotel) -> None:
    offer = {"__typename": "Offer", "id": "YQ-01"}
    found = await service.entities("... on Offer { id yunqi_depositFen }", offer)
    assert found["data"] == {"_entities": [{"id": "YQ-01", "yunqi_depositFen": None}]}
    (error,) = found["errors"]
    assert error["message"] == "cashFen was not sent"
    assert error["path"] == ["_entities", 0, "yunqi_depositFen"]


@pytest.mark.parametrize(("token", "status"), [("bad", 401), ("narrow", 403)])
async def test_a_token_of_the_groups_own_issuer_is_needed(
    service: Hotel, token: str, status: int
) -> None:
    assert (await service.ask("{ yunqi_houses { id } }", token)).status_code == status


async def test_what_came_is_told_to_who_may_know(service: Hotel) -> None:
    headers = {"coalition-member": "pm_1"}
    await service.ask("{ yunqi_houses { id } }", headers=headers)
    last = (await service.control("GET", "seen"))[-1]
    assert last["client"] == "coalition-gateway"
    assert last["headers"]["coalition-member"] == "pm_1"
    assert "authorization" not in last["headers"]
    assert json.loads(last["body"])["query"] == "{ yunqi_houses { id } }"
    assert await service.control("GET", "seen", token="other") == 401
    assert await service.control("POST", "faults", token="other", fault="error_5xx") == 401


async def test_it_misbehaves_on_demand_as_often_as_told(service: Hotel) -> None:
    query = "{ yunqi_houses { id } }"
    await service.control("POST", "faults", fault="error_5xx", count=1)
    assert (await service.ask(query)).status_code == 500
    await service.control("POST", "faults", fault="malformed_body", count=1)
    with pytest.raises(json.JSONDecodeError):
        (await service.ask(query)).json()
    await service.control("POST", "faults", fault="connection_refused", count=1)
    with pytest.raises(httpx2.TransportError):
        await service.ask(query)
    await service.control("POST", "faults", fault="latency", value=0.3)
    began = time.monotonic()
    assert (await service.ask(query)).status_code == 200
    assert time.monotonic() - began > 0.3
    await service.control("DELETE", "faults")
    assert (await service.ask(query)).json()["data"]["yunqi_houses"]
    assert await service.control("POST", "faults", fault="no such thing") == 400


async def test_requests_that_are_none_are_refused(service: Hotel) -> None:
    headers = {"authorization": "Bearer good"}
    for body, status in ((b"{", 400), (b"x" * (2 << 20), 413)):
        answer = await service.http.post(f"{service.url}/subgraph", content=body, headers=headers)
        assert answer.status_code == status
    assert (await service.http.get(f"{service.url}/subgraph")).status_code in (404, 405)
    assert (await service.ask("{ nothing }")).json()["errors"]


async def test_either_goes_on_where_the_other_ended(tmp_path: Path, issued_by: str) -> None:
    doors = []
    for language in (PYTHON, NODE, PYTHON):
        async with hotel(language, tmp_path, issued_by) as made:
            for redemption in ("red_1", f"red_{language}"):
                stay = {"__typename": "Redemption", "id": redemption}
                found = await made.entities("... on Redemption { yunqi_stay { door } }", stay)
                doors.append(found["data"]["_entities"][0]["yunqi_stay"]["door"])
    assert doors == ["801", "802", "801", "803", "801", "802"]


async def test_without_an_issuer_nobody_is_known(tmp_path: Path) -> None:
    with reserve() as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with hotel(PYTHON, tmp_path, url) as made:
            assert (await made.ask("{ yunqi_houses { id } }")).status_code == 503
