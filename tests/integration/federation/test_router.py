"""A router serves a supergraph: over HTTP, with rules for headers, and follows its files."""

import asyncio
import json

import pytest

from gateway.federation import config as configs
from gateway.federation.config import InvalidConfig
from gateway.federation.documents import digest
from gateway.federation.router import CannotStart, Router
from tests.integration.federation.client import ask, connected, get

BOTH = "{ offers { id name reviews } }"
ANSWER = {
    "data": {
        "offers": [
            {"id": "1", "name": "Tea", "reviews": ["reviews on 1"]},
            {"id": "2", "name": "Bun", "reviews": ["reviews on 2"]},
        ]
    }
}


async def test_one_graph_of_two_subgraphs(start, graphs):
    async with start() as router:
        assert await ask(router.port, BOTH) == ANSWER
        assert len(graphs.requests) == 2
        renamed = await ask(
            router.port,
            "mutation($n: String!) { rename(id: 2, name: $n) { name reviews } }",
            variables={"n": "Roll"},
        )
        assert renamed == {"data": {"rename": {"name": "Roll", "reviews": ["reviews on 2"]}}}


async def test_health_and_nothing_else(start):
    async with start() as router:
        status, _, body = await get(router.port, "/health")
        assert (status, json.loads(body)["status"]) == (200, "ok")
        assert (await get(router.port, "/"))[0] == 404
        assert (await get(router.port, "/graphqlx?query={stars}"))[0] == 404
        assert (await get(router.port, "/graphql?query={stars}"))[2] == b'{"data":{"stars":5}}'


async def test_only_headers_of_the_rules_are_forwarded(start, graphs):
    given = {"authorization": "Bearer a", "cookie": "s=1", "x_tenant": "t"}
    async with start() as router:
        assert (await ask(router.port, "{ who }", headers=given))["data"]["who"] == "{}"
    rules = "forward_headers: [Authorization]\nsubgraphs: {offers: {headers: {X-From: router}}}"
    async with start(rules, forward_headers=("authorization", "x-tenant")) as router:
        told = json.loads((await ask(router.port, "{ who }", headers=given))["data"]["who"])
        assert told == {"authorization": "Bearer a", "x-tenant": "t", "x-from": "router"}


async def test_identical_reads_under_way_are_one_unless_identity_or_configuration_say_no(
    start, graphs
):
    async def asked(router: Router, *names: str) -> int:
        graphs.requests.clear()
        graphs.waiting.clear()
        graphs.gate.clear()
        headers = [{"authorization": name} if name else {} for name in names]
        tasks = [asyncio.create_task(ask(router.port, "{ wait }", headers=h)) for h in headers]
        await graphs.waiting.wait()
        await asyncio.sleep(0.1)  # Whoever is not shared has asked by then.
        graphs.gate.set()
        assert {json.dumps(one) for one in await asyncio.gather(*tasks)} == {
            '{"data": {"wait": "waited"}}'
        }
        return len(graphs.requests)

    async with start(forward_headers=("authorization",)) as router:
        assert await asked(router, "", "", "", "") == 1
        assert await asked(router, "a", "a", "b", "") == 3
    async with start("sharing: false") as router:
        assert await asked(router, "", "", "") == 3


async def test_a_changed_supergraph_is_served_and_a_broken_one_is_not(start, graphs, caplog):
    async with start("times: {reload: 0.02}") as router:
        path = router.config.supergraph
        before = json.loads((await get(router.port, "/health"))[2])["supergraph"]
        graphs.gate.clear()
        running = asyncio.create_task(ask(router.port, "{ wait }"))
        await graphs.waiting.wait()

        path.write_text("type Query { nothing: Int }", encoding="utf-8")
        await _until(lambda: "is not served" in caplog.text)
        assert await ask(router.port, "{ stars }") == {"data": {"stars": 5}}

        path.write_text(graphs.supergraph.replace("stars: Int", "# stars: Int"), encoding="utf-8")
        for _ in range(500):
            answer = await ask(router.port, "{ stars }")
            if "errors" in answer:
                break
            await asyncio.sleep(0.02)
        assert answer["errors"][0]["message"].startswith("Cannot query field 'stars'")
        assert await ask(router.port, BOTH) == ANSWER
        assert json.loads((await get(router.port, "/health"))[2])["supergraph"] != before
        graphs.gate.set()
        assert await running == {"data": {"wait": "waited"}}


async def test_the_file_may_be_gone_for_a_while(start, graphs):
    async with start("times: {reload: 0.01}") as router:
        router.config.supergraph.unlink()
        await asyncio.sleep(0.1)
        assert await ask(router.port, "{ stars }") == {"data": {"stars": 5}}


async def test_trusted_documents_by_client_and_a_new_manifest(start, graphs, tmp_path):
    path = tmp_path / "trusted.json"
    path.write_text(json.dumps({"app": {digest("{ stars }"): "{ stars }"}}), encoding="utf-8")
    written = "times: {reload: 0.02}\ntrusted: {mode: only, manifest: trusted.json}"
    async with start(written) as router:
        app = {"graphql_client_name": "app"}
        asked = {"documentId": digest("{ stars }")}
        assert (await ask(router.port, None, headers=app, **asked))["data"] == {"stars": 5}
        assert (await ask(router.port, "{ stars }", headers=app))["data"] == {"stars": 5}
        for headers, query in (({}, "{ stars }"), (app, BOTH)):
            refused = await ask(router.port, query, headers=headers)
            assert refused["errors"][0]["extensions"]["code"] == "DOCUMENT_NOT_TRUSTED"
        path.write_text(json.dumps({digest(BOTH): BOTH}), encoding="utf-8")
        for _ in range(500):
            answer = await ask(router.port, BOTH)
            if "data" in answer:
                break
            await asyncio.sleep(0.02)
        assert answer == ANSWER


async def test_a_failing_subgraph_costs_its_own_fields(start, graphs):
    async with start('subgraphs: {reviews: {url: "http://127.0.0.1:9/"}}') as router:
        answer = await ask(router.port, "{ who stars }")
        assert answer["data"] == {"who": "{}", "stars": None}
        assert answer["errors"][0]["extensions"]["service"] == "reviews"


async def test_introspection_has_a_switch(start):
    query = "{ __schema { queryType { name } } }"
    async with start() as router:
        assert (await ask(router.port, query))["data"] == {
            "__schema": {"queryType": {"name": "Query"}}
        }
    async with start(introspection=False) as router:
        assert (await ask(router.port, query))["errors"]
        assert (await ask(router.port, "{ __typename }"))["data"] == {"__typename": "Query"}


async def test_stopping_lets_requests_end_and_takes_no_new_ones(start, graphs):
    async with start("times: {drain: 20}") as router, connected(router.port) as idle:
        running = asyncio.create_task(ask(router.port, "{ wait }"))
        await graphs.waiting.wait()
        router.stopping.set()
        assert await idle.ended() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", router.port)
        graphs.gate.set()
        assert await running == {"data": {"wait": "waited"}}


async def test_stopping_ends_what_does_not_end(start, graphs):
    async with start("times: {drain: 0.05}") as router, connected(router.port) as wire:
        wire.post({"query": "{ wait }"})
        await graphs.waiting.wait()
        router.stopping.set()
        assert await wire.ended() == b""


@pytest.mark.parametrize("text", ["", "type Query { a: Int }", "{"])
async def test_it_does_not_start_without_a_supergraph(tmp_path, text):
    path = tmp_path / "supergraph.graphql"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CannotStart):
        await Router(configs.read(None, supergraph=path, port=0)).serve()


async def test_it_does_not_start_where_it_cannot_listen(start):
    async with start() as router:
        taken = configs.read(None, supergraph=router.config.supergraph, port=router.port)
        with pytest.raises(CannotStart, match="cannot listen"):
            await Router(taken).serve()


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("prot: 1", "prot"), ("port: x", "int is needed"), ("limits: {depth: deep}", "depth"),
        ("limits: 3", "names with values"), ("trusted: {mode: some}", "one of off, log, only"),
        ("trusted: {mode: only}", "manifest"), ("forward_headers: a", "a list"),
        ("subgraphs: [a]", "names with values"), ("subgraphs: {a: {events: smoke}}", "one of"),
        ("- 1", "names with values"), ("a: b: c", "mapping values"), ("introspection: 1", "bool"),
    ],
)  # fmt: skip
def test_a_configuration_names_its_fault(tmp_path, written, named):
    path = tmp_path / "router.yaml"
    path.write_text(written, encoding="utf-8")
    with pytest.raises(InvalidConfig, match=named):
        configs.read(path)


def test_a_configuration_of_everything(tmp_path):
    path = tmp_path / "router.yaml"
    path.write_text(
        """
supergraph: graphs/one.graphql
port: 4001
introspection: false
sharing: false
forward_headers: [authorization, x-tenant]
times: {request: 10, subgraph: 2.5}
limits: {depth: 12, cost: 5000, aliases: null}
trusted: {mode: off, manifest: trusted.json}
subgraphs:
  a: {url: "http://a/", headers: {x: y}, events: http}
""",
        encoding="utf-8",
    )
    read = configs.read(path, port=4002)
    assert (read.supergraph, read.port) == (tmp_path / "graphs/one.graphql", 4002)
    assert (read.limits.depth, read.limits.aliases, read.limits.fields) == (12, None, 10_000)
    assert (read.times.subgraph, read.times.request) == (2.5, 10.0)
    assert read.subgraphs["a"].headers == {"x": "y"}
    assert read.trusted.manifest == tmp_path / "trusted.json"


async def _until(true) -> None:
    for _ in range(1_000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass")
