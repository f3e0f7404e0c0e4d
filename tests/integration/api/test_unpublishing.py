"""A merchant's subgraph leaves the graph: by itself or the operator, and not at clients' cost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.audit import service as audit
from gateway.db import system_now
from gateway.errors import NotFound
from gateway.operations import graphs as terminal
from gateway.subgraphs import service as subgraphs
from gateway.subgraphs.model import SchemaBreaking, document_hash
from tests.integration.api.test_subgraphs import OFFER, Place, placed
from tests.support.merchant_graph import SDL

on_sqlite = pytest.mark.parametrize("seeded_url", ["sqlite"], indirect=True)  # No SQL of its own.
TEA = SDL.replace("xinghui_", "chawei_").replace("Xinghui_", "Chawei_")
WANTED = "subgraph { id version live } report { changes operations { name client } }"


@pytest.fixture
async def place(coalition, tmp_path) -> AsyncIterator[Place]:
    async with placed(coalition, tmp_path, subgraph_seconds=3.0) as made:
        yield made


async def unpublish(place: Place, merchant: str = "M05", **more):
    client = await place.gateway.merchant(merchant)
    answer = await client.do("unpublishSubgraph", WANTED, **more)
    await place.gateway.app.state.graphs.refresh()
    return answer


async def live(place: Place) -> tuple[int | None, set[str]]:
    async with place.gateway.runtime.database.reading() as tx:
        number = (await subgraphs.live(tx)).number
        return number, {each.merchant_id for each in await subgraphs.members_of(tx, number)}


async def test_the_others_stay_and_every_version_is_kept(place):
    made = await place.publish()
    await place.publish(TEA, merchant="M06")
    gone = await unpublish(place, allowBreaking=True)
    assert gone["errors"] == []
    subgraph = made["subgraph"]
    assert gone["subgraph"] == {"id": subgraph["id"], "version": 1, "live": False}
    assert "Field Offer.xinghui_blurb was removed." in gone["report"]["changes"]
    assert await live(place) == (3, {"M06"})
    member = await place.gateway.member("mbr_demo_01")
    assert (await member.ask(OFFER)).codes == ["MALFORMED_REQUEST"] * 2
    tea = await member.ask("{ chawei_showings { hall } }")  # It has other names, but is asked.
    assert tea.codes == ["PARTNER_UNAVAILABLE"]
    client = await place.gateway.merchant("M05")
    (kept,) = (await client.data("{ subgraphs { version live } }"))["subgraphs"]
    assert kept == {"version": 1, "live": False}
    async with place.gateway.runtime.database.transaction() as tx:
        (entry, _) = await audit.entries(tx, subject=subgraph["id"], limit=5)
        assert (entry["kind"], entry["actor"]) == ("subgraph.unpublished", "merchant-M05")
        assert (entry["body"]["version"], entry["body"]["before"]) == (3, 2)
        assert await subgraphs.roll_back(tx, to=None, actor="x", now=system_now()) == (3, 2)
    await place.gateway.app.state.graphs.refresh()
    assert (await member.data(OFFER))["offer"]["xinghui_blurb"] == "2D电影票!"


async def test_what_clients_use_keeps_it_unless_that_is_allowed(place):
    await place.publish()
    member = await place.gateway.member("mbr_demo_01")
    for _ in range(2):
        await member.data('query Trailer { offer(id: "XH-01") { xinghui_trailer { url } } }')
    await place.gateway.app.state.graphs.save_seen()
    for check in (True, False):
        (refused,) = (await unpublish(place, check=check))["errors"]
        assert refused["code"] == "SCHEMA_BREAKING"
        assert refused["context"]["partners"] == ["member-app"]
        assert [each["name"] for each in refused["context"]["operations"]] == ["Trailer"]
    assert await live(place) == (1, {"M05"})
    looked = await unpublish(place, check=True, allowBreaking=True)
    assert (looked["errors"], looked["subgraph"]) == ([], None)
    assert looked["report"]["operations"] == [{"name": "Trailer", "client": "member-app"}]
    assert await live(place) == (1, {"M05"})
    gone = await unpublish(place, allowBreaking=True)
    assert gone["report"] == looked["report"]
    assert await live(place) == (2, set())
    assert place.gateway.app.state.graphs.current.members == frozenset()


@on_sqlite
async def test_asking_again_is_the_same_unpublishing_and_none_is_refused(place):
    (refused,) = (await unpublish(place))["errors"]
    assert refused["code"] == "NOT_FOUND"
    await place.publish()
    first = await unpublish(place, allowBreaking=True, idempotencyKey="one")
    again = await unpublish(place, allowBreaking=True, idempotencyKey="one")
    assert again["replayed"] is True
    assert again["subgraph"] == first["subgraph"]
    assert again["report"] is None
    (refused,) = (await unpublish(place, allowBreaking=True, idempotencyKey="two"))["errors"]
    assert refused["code"] == "NOT_FOUND"
    (refused,) = (await unpublish(place, idempotencyKey="one"))["errors"]
    assert refused["code"] == "IDEMPOTENCY_CONFLICT"
    anew = await place.publish()
    assert (anew["errors"], anew["subgraph"]["version"]) == ([], 2)


async def test_an_unpublishing_and_a_publication_at_once_both_happen(place):
    await place.publish()
    other, gone = await asyncio.gather(
        place.publish(TEA, merchant="M06"), unpublish(place, allowBreaking=True)
    )
    assert other["errors"] == gone["errors"] == []
    assert await live(place) == (3, {"M06"})


@on_sqlite
async def test_only_a_merchant_unpublishes_and_only_its_own(place):
    await place.publish()
    member = await place.gateway.member("mbr_demo_01")
    answer = await member.ask(
        "mutation($i: UnpublishSubgraphInput!) { unpublishSubgraph(input: $i) { replayed } }",
        i={"idempotencyKey": "k", "allowBreaking": True},
    )
    assert answer.codes == ["ROLE_FORBIDDEN"]
    (refused,) = (await unpublish(place, "M06", allowBreaking=True))["errors"]
    assert refused["code"] == "NOT_FOUND"
    assert await live(place) == (1, {"M05"})


async def test_the_terminal_says_who_rolled_back_to_what_is_live(place, seeded_url):
    settings = replace(place.gateway.runtime.settings, database_url=seeded_url)
    assert await terminal.versions(settings, limit=5) == [("0", "live", "", "", "", "")]
    await place.publish()
    ((*_, untold),) = await terminal.versions(settings, limit=5)
    assert untold == ""
    assert await terminal.roll_back(settings, 0) == (1, None)
    zero, one = await terminal.versions(settings, limit=5)
    assert zero[:5] == ("0", "live", "", "", "")
    assert zero[5].startswith("operator:terminal, 20")
    assert (one[:3], one[5]) == (("1", "", "M05 1"), "")
    await terminal.roll_back(settings, 1)
    ((number, live, *_, told),) = await terminal.versions(settings, limit=5)
    assert (number, live) == ("1", "live")
    assert told.startswith("operator:terminal, 20")


async def test_documents_are_trusted_for_clients_there_are_and_named_if_refused(place, seeded_url):
    settings = replace(place.gateway.runtime.settings, database_url=seeded_url)
    good, bad = ("good.graphql", "{ me { id } }"), ("bad.graphql", "{\n  me { idd } }")
    with pytest.raises(NotFound, match="nobody"):
        await terminal.trust(settings, "nobody", [good])
    with pytest.raises(ValueError, match=r"^bad\.graphql:2:8: Cannot query field 'idd'"):
        await terminal.trust(settings, "member-app", [good, bad])
    assert await terminal.trust(settings, "member-app", [good]) == [document_hash(good[1])]


async def test_the_terminal_unpublishes_too(place, seeded_url):
    settings = replace(place.gateway.runtime.settings, database_url=seeded_url)
    with pytest.raises(NotFound):
        await terminal.unpublish(settings, "M05", breaking=True)
    await place.publish()
    with pytest.raises(SchemaBreaking):
        await terminal.unpublish(settings, "M05", breaking=False)
    number, version, lost = await terminal.unpublish(settings, "M05", breaking=True)
    assert (number, version) == (1, 2)
    assert "Field Offer.xinghui_blurb was removed." in lost
    assert await live(place) == (2, set())
