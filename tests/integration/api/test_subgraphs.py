"""A merchant publishes its subgraph and its fields are answered beside ours, over real HTTP."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace

import httpx2
import pytest

from gateway.api.graphs import Graphs
from gateway.api.schema import ours, subgraph_sdl
from gateway.audit import service as audit
from gateway.db import Clock, system_now
from gateway.members.model import pseudonym
from gateway.oauth.addresses import LoopbackToo
from gateway.runtime import Runtime
from gateway.settings import Settings
from gateway.subgraphs import service as subgraphs
from gateway.subgraphs.composing import Ours
from gateway.subgraphs.model import Operation, document_hash
from gateway.subgraphs.publishing import Publishing
from partners import Auth, Connection
from tests.support.gateway import Gateway, running
from tests.support.merchant_graph import CLIENT, LINK, SDL, SECRET, MerchantGraph
from tests.support.serving import bound, serving
from tests.support.subscriber import subscribed

on_sqlite = pytest.mark.parametrize("seeded_url", ["sqlite"], indirect=True)  # No SQL of its own.
OFFER = '{ offer(id: "XH-01") { nameZh xinghui_blurb xinghui_trailer { url offer { nameEn } } } }'


def connection(merchant: str, base: str) -> Connection:
    """How the gateway signs in at a merchant's."""
    auth = Auth("client_secret_basic", CLIENT, secret=SECRET)
    return Connection(merchant, "graphql", base, f"{base}/oauth/token", auth, base)


@dataclass
class Place:
    """A gateway, and a cinema with a subgraph of its own."""

    gateway: Gateway
    cinema: MerchantGraph
    url: str

    async def publish(self, sdl: str = SDL, merchant: str = "M05", **more):
        client = await self.gateway.merchant(merchant)
        wanted = (
            "subgraph { id version live sdlSha256 }"
            " report { hints changes operations { name client error } }"
        )
        answer = await client.do("publishSubgraph", wanted, sdl=sdl, url=self.url, **more)
        await self.gateway.app.state.graphs.refresh()
        return answer


@contextlib.asynccontextmanager
async def placed(coalition, home, **more) -> AsyncIterator[Place]:
    cinema = MerchantGraph()
    listening, port = bound()
    base = f"http://127.0.0.1:{port}"
    connections = {name: connection(name, base) for name in ("M05", "M06")}
    async with (
        serving(cinema.app(), listening),
        running(
            coalition.database,
            home,
            clock=coalition.clock,
            partners=coalition.partners,
            connections=connections,
            **more,
        ) as gateway,
    ):
        yield Place(gateway, cinema, f"{base}/graphql")


@pytest.fixture
async def place(coalition, tmp_path) -> AsyncIterator[Place]:
    async with placed(coalition, tmp_path, subgraph_seconds=3.0) as made:
        yield made


async def test_a_merchants_fields_are_answered_beside_ours(place):
    made = await place.publish()
    assert made["errors"] == []
    assert made["subgraph"]["version"] == 1
    assert made["subgraph"]["live"] is True
    member = await place.gateway.member("mbr_demo_01")
    found = await member.data(OFFER)
    assert found["offer"] == {
        "nameZh": "2D电影票",
        "xinghui_blurb": "2D电影票!",
        "xinghui_trailer": {
            "url": "https://x.example/XH-01",
            "offer": {"nameEn": "2D ticket"},
        },
    }
    shown = await member.data('{ xinghui_showings(city: "上海") { hall offer { id cashFen } } }')
    assert shown == {
        "xinghui_showings": [{"hall": "上海", "offer": {"id": "XH-01", "cashFen": 4500}}]
    }


@on_sqlite
async def test_a_merchant_is_asked_with_our_token_there_and_never_with_the_members(place):
    await place.publish()
    member = await place.gateway.member("mbr_demo_01")
    await member.data(OFFER)
    (asked,) = place.cinema.seen
    assert place.cinema.tokens == 1
    assert asked["headers"]["authorization"] == "Bearer token-of-the-cinema"
    assert member.token not in str(asked)
    assert "mbr_demo_01" not in str(asked)


@on_sqlite
async def test_a_member_is_named_to_merchants_it_has_to_do_with_and_only_by_pseudonym(place):
    await place.publish()
    secret = place.gateway.runtime.secret
    known = await place.gateway.member("mbr_demo_01")
    await known.data(OFFER)
    stranger = await place.gateway.member("mbr_demo_08")
    await stranger.data(OFFER)
    staff = await place.gateway.merchant("M04")
    await staff.data(OFFER)
    named = [asked["headers"].get("coalition-member") for asked in place.cinema.seen]
    assert named == [pseudonym(secret, "M05", "mbr_demo_01"), None, None]


SLOW = {
    "a slow one": ({"seconds": 4.0}, "未按时回答", "no answer in time"),
    "one that is out of order": (
        {"status": 500},
        "回答的 HTTP 状态有误:500",
        "answered with HTTP status 500",
    ),
    "one that says no": (
        {"error": "we are painting the walls \u0007"},
        *["we are painting the walls "] * 2,
    ),
}


@on_sqlite
@pytest.mark.parametrize("how", SLOW)
async def test_a_failing_merchant_costs_its_own_fields_only(place, how):
    await place.publish()
    behaviour, zh, en = SLOW[how]
    vars(place.cinema).update(behaviour)
    member = await place.gateway.member("mbr_demo_01")
    answer = await member.ask(OFFER)
    assert answer.status == 200
    assert answer.body["data"]["offer"] == {
        "nameZh": "2D电影票",
        "xinghui_blurb": None,
        "xinghui_trailer": None,
    }
    assert answer.codes
    assert set(answer.codes) == {"PARTNER_UNAVAILABLE"}
    assert sorted(error["path"] for error in answer.body["errors"]) == [
        ["offer", "xinghui_blurb"],
        ["offer", "xinghui_trailer"],
    ]
    for error in answer.body["errors"]:
        assert error["message"] == "星汇影城暂时无响应,相关内容暂缺"
        assert error["extensions"]["service"] == "M05"
        assert error["extensions"]["reason"] == zh
    member.language = "en"
    english = await member.ask(OFFER)
    error = english.body["errors"][0]
    assert error["message"] == "Xinghui Cinemas does not respond; its part is missing for now"
    assert error["extensions"]["reason"] == en
    ours = await member.data('{ offer(id: "XH-01") { nameZh } }')
    assert ours["offer"]["nameZh"] == "2D电影票"


@on_sqlite
async def test_every_field_of_a_merchant_that_is_down_has_its_error(place):
    await place.publish()
    place.cinema.status = 503
    member = await place.gateway.member("mbr_demo_01")
    listed = "{ offers(first: 2) { edges { node { id xinghui_blurb } } } xinghui_showings { id } }"
    answer = await member.ask(listed)
    assert answer.body["data"]["xinghui_showings"] is None
    assert sorted(error["path"] for error in answer.body["errors"]) == [
        ["offers", "edges", 0, "node", "xinghui_blurb"],
        ["offers", "edges", 1, "node", "xinghui_blurb"],
        ["xinghui_showings"],
    ]


WARNED = """
query Warned($no: Boolean = false) {
  offer(id: "XH-01") { nameZh xinghui_blurb }
  offers(first: 1) { edges { node { id } } told: warnings { merchant } }
  ...All
  none: warnings @include(if: $no) { code }
}
fragment All on Query { warnings { __typename merchant code staleAt words: message } }
"""


@on_sqlite
async def test_who_failed_is_among_the_warnings_of_a_query(place):
    await place.publish()
    member = await place.gateway.member("mbr_demo_01")
    found = await member.data(WARNED)
    assert (found["warnings"], found["offers"]["told"]) == ([], [])
    place.cinema.status = 500
    answer = await member.ask(WARNED)
    assert answer.codes == ["PARTNER_UNAVAILABLE"]
    data = answer.body["data"]
    assert list(data) == ["offer", "offers", "warnings"]
    assert data["offer"] == {"nameZh": "2D电影票", "xinghui_blurb": None}
    assert data["offers"]["told"] == [{"merchant": "M05"}]
    words = "星汇影城暂时无响应,相关内容暂缺"
    code = "PARTNER_UNAVAILABLE"
    told = {"__typename": "Warning", "merchant": "M05", "code": code, "staleAt": None}
    assert data["warnings"] == [told | {"words": words}]
    assert len((await member.ask(WARNED, no=True)).body["data"]["none"]) == 1


@on_sqlite
async def test_a_redemption_is_named_to_its_own_merchant_only(place, coalition):
    await place.publish()
    here = await coalition.redeemed("mbr_demo_01", "XH-01", ("P-LL", None))
    there = await coalition.redeemed("mbr_demo_01", "LL-01", ("P-LL", None))
    member = await place.gateway.member("mbr_demo_01")
    query = (
        "query($a: ID!, $b: ID!) { a: redemption(id: $a) { ...R } b: redemption(id: $b) { ...R } }"
    )
    found = await member.data(
        f"{query} fragment R on Redemption {{ id xinghui_seat }}", a=here.id, b=there.id
    )
    assert found == {
        "a": {"id": here.id, "xinghui_seat": "7-12"},
        "b": {"id": there.id, "xinghui_seat": None},
    }
    assert there.id not in str(place.cinema.seen)


@on_sqlite
async def test_our_own_documents_are_answered_as_ever_beside_a_published_subgraph(place):
    member = await place.gateway.member("mbr_demo_01")
    query = "{ offers(first: 3) { edges { node { id merchant { nameZh } } } } me { id } }"
    before = await member.ask(query)
    await place.publish()
    after = await member.ask(query)
    assert after.body["data"] == before.body["data"]
    assert after.body["extensions"]["cost"] == before.body["extensions"]["cost"]
    assert place.cinema.seen == []


@on_sqlite
async def test_an_effect_and_a_merchants_field_go_in_one_mutation(place, coalition):
    await place.publish()
    member = await place.gateway.member("mbr_demo_01")
    quoted = await member.did(
        "requestQuote", "quote { id offer { id xinghui_blurb } }", offer="XH-01",
        legs=[{"programme": "P-LL"}],
    )  # fmt: skip
    assert quoted["quote"]["offer"] == {"id": "XH-01", "xinghui_blurb": "2D电影票!"}
    held = await member.did(
        "holdRedemption", "redemption { id state xinghui_seat }", quote=quoted["quote"]["id"]
    )
    assert held["redemption"]["state"] == "HELD"
    assert held["redemption"]["xinghui_seat"] == "7-12"


@on_sqlite
async def test_a_check_changes_nothing(place):
    report = await place.publish(check=True)
    assert report["errors"] == []
    assert report["subgraph"] is None
    assert report["report"] == {"hints": [], "changes": [], "operations": []}
    client = await place.gateway.merchant("M05")
    assert (await client.data("{ subgraphs { id } }"))["subgraphs"] == []


@on_sqlite
async def test_the_live_graph_is_read_beside_the_event_loop(place, monkeypatch):
    await place.publish()
    threads, read = [], Publishing._before

    def noted(publishing, version):
        threads.append(threading.current_thread())
        return read(publishing, version)

    monkeypatch.setattr(Publishing, "_before", noted)
    await place.publish(check=True)
    client = await place.gateway.merchant("M05")
    await client.do("unpublishSubgraph", check=True)
    assert len(threads) == 2
    assert threading.main_thread() not in threads


@on_sqlite
async def test_every_error_is_told_with_its_code(place):
    bad = LINK + (
        'type Offer @key(fields: "id") { id: ID! nameZh: String! seats: Int! }\n'
        "type Seat { pointsTransfer: Int }\n"
        "type Mutation { xinghui_take: Boolean }"
    )
    answer = await place.publish(bad)
    (error,) = answer["errors"]
    assert error["code"] == "COMPOSITION_FAILED"
    told = {(each["code"], each["at"]) for each in error["context"]["errors"]}
    assert told >= {
        ("OUR_FIELD", "Offer.nameZh"),
        ("FIELD_PREFIX", "Offer.seats"),
        ("FIELD_NOT_NULLABLE", "Offer.seats"),
        ("TYPE_PREFIX", "Seat"),
        ("RED_LINE", "Seat.pointsTransfer"),
        ("ROOT_EFFECT", "Mutation"),
    }
    broken = await place.publish(LINK + "type Xinghui_A { b: Xinghui_B }")
    codes = [each["code"] for each in broken["errors"][0]["context"]["errors"]]
    assert codes == ["INVALID_GRAPHQL"]


async def test_what_clients_use_is_not_taken_away_unless_it_is_allowed(place):
    await place.publish()
    member = await place.gateway.member("mbr_demo_01")
    for _ in range(2):
        await member.data('query Trailer { offer(id: "XH-01") { xinghui_trailer { url } } }')
    await place.gateway.app.state.graphs.save_seen()
    less = SDL.replace("  xinghui_trailer(language: String): Xinghui_Trailer\n", "")
    refused = (await place.publish(less))["errors"][0]
    assert refused["code"] == "SCHEMA_BREAKING"
    assert refused["context"]["changes"] == 1
    assert refused["context"]["partners"] == ["member-app"]
    (operation,) = refused["context"]["operations"]
    assert operation["name"] == "Trailer"
    assert operation["client"] == "member-app"
    allowed = await place.publish(less, allowBreaking=True)
    assert allowed["errors"] == []
    assert allowed["subgraph"]["version"] == 2
    assert allowed["report"]["changes"] == ["Field Offer.xinghui_trailer was removed."]
    assert (await member.ask(OFFER)).codes == ["MALFORMED_REQUEST"]


async def test_publishing_again_with_a_key_or_without_a_change_makes_no_version(place):
    first = await place.publish(idempotencyKey="one")
    again = await place.publish(idempotencyKey="one")
    assert again["replayed"] is True
    assert again["subgraph"]["id"] == first["subgraph"]["id"]
    same = await place.publish(idempotencyKey="two")
    assert same["replayed"] is False
    assert same["subgraph"]["id"] == first["subgraph"]["id"]
    async with place.gateway.runtime.database.reading() as tx:
        (entry,) = await audit.entries(tx, subject=first["subgraph"]["id"], limit=5)
    assert (entry["kind"], entry["actor"]) == ("subgraph.published", "merchant-M05")
    assert entry["body"]["version"] == 1
    other = await place.publish(SDL + "extend type Xinghui_Trailer { more: String }",
                                idempotencyKey="one")  # fmt: skip
    assert other["errors"][0]["code"] == "IDEMPOTENCY_CONFLICT"


@on_sqlite
@pytest.mark.parametrize(
    "url", ["http://10.0.0.7/graphql", "https://127.0.0.1.example@10.0.0.1/", "ftp://a.example/"]
)
async def test_an_address_that_may_not_be_asked_is_refused(place, url):
    client = await place.gateway.merchant("M05")
    refused = await client.refused("publishSubgraph", sdl=SDL, url=url)
    assert refused["code"] == "INVALID_INPUT"
    assert refused["field"] == ["url"]


@on_sqlite
async def test_a_merchant_without_a_connection_publishes_nothing(place):
    client = await place.gateway.merchant("M07")
    own = SDL.replace("xinghui_", "kuaixing_").replace("Xinghui_", "Kuaixing_")
    broken = await client.refused("publishSubgraph", sdl=SDL, url=place.url)
    assert broken["code"] == "COMPOSITION_FAILED"
    refused = await client.refused("publishSubgraph", sdl=own, url=place.url)
    assert (refused["code"], refused["field"]) == ("INVALID_INPUT", ["url"])
    checked = await client.do("publishSubgraph", "report { changes }", sdl=own, url=place.url,
                              check=True)  # fmt: skip
    assert (checked["errors"], checked["report"]) == ([], {"changes": []})


async def test_two_publications_at_once_are_both_in_the_graph(place):
    tea = SDL.replace("xinghui_", "chawei_").replace("Xinghui_", "Chawei_")
    one, other = await asyncio.gather(place.publish(), place.publish(tea, merchant="M06"))
    assert one["errors"] == other["errors"] == []
    graph = place.gateway.app.state.graphs.current
    assert graph.members == {"M05", "M06"}
    assert {"xinghui_showings", "chawei_showings"} == graph.queries


@on_sqlite
async def test_a_client_sends_the_hash_of_a_document_it_has_registered(place):
    text = '{ offer(id: "XH-01") { nameZh } }'
    made = Operation(document_hash(text), "member-app", text, registered=True)
    async with place.gateway.runtime.database.transaction() as tx:
        await subgraphs.save_operations(tx, [made], now=system_now())
    member = await place.gateway.member("mbr_demo_01")
    merchant = await place.gateway.merchant("M04")

    async def send(client, name):
        answer = await place.gateway.http.post(
            f"{place.gateway.base}/graphql",
            json={"extensions": {"persistedQuery": {"version": 1, "sha256Hash": name}}},
            headers={
                "authorization": f"Bearer {client.token}",
                "accept": "application/graphql-response+json",
            },
        )
        return answer.status_code, answer.json()

    status, body = await send(member, made.hash)
    assert (status, body["data"]["offer"]["nameZh"]) == (200, "2D电影票")
    for client, name in ((merchant, made.hash), (member, "0" * 64)):
        status, body = await send(client, name)
        assert status == 400
        assert "data" not in body
        assert body["errors"][0]["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"
    assert (await send(member, "no hash"))[0] == 400


@on_sqlite
async def test_a_member_apps_own_supergraph_has_the_whole_graph(place):
    await place.publish()
    member = await place.gateway.member("mbr_demo_01")
    sdl = (await member.data("{ _service { sdl } }"))["_service"]["sdl"]
    assert "xinghui_trailer(language: String): Xinghui_Trailer" in sdl
    assert 'type Offer @key(fields: "id")' in sdl
    query = (
        "query($r: [_Any!]!) { _entities(representations: $r) {"
        " ... on Offer { nameZh xinghui_blurb } ... on Xinghui_Showing { hall } } }"
    )
    asked = [
        {"__typename": "Offer", "id": "XH-01"},
        {"__typename": "Xinghui_Showing", "id": "s1"},
        {"__typename": "Offer", "id": "nowhere"},
    ]
    answer = await member.ask(query, r=asked)
    assert answer.body["data"]["_entities"] == [
        {"nameZh": "2D电影票", "xinghui_blurb": "2D电影票!"},
        {"hall": "3"},
        None,
    ]
    ours = "query($r: [_Any!]!) { _entities(representations: $r) { ... on Offer { nameZh } } }"
    answer = await member.data(ours, r=[asked[0], asked[2]])
    assert answer["_entities"] == [{"nameZh": "2D电影票"}, None]


def showing(offer):
    return {"id": "s", "hall": "1", "offer": {"__typename": "Offer", "id": offer}}


@on_sqlite
async def test_a_merchants_answer_names_no_more_of_ours_than_is_looked_up_at_once(place):
    await place.publish()
    member = await place.gateway.member("mbr_demo_01")
    for count, codes in ((1_000, {"NOT_FOUND"}), (1_001, {"QUERY_TOO_EXPENSIVE"})):
        place.cinema.xinghui_showings = lambda _info, city=None, count=count: [
            showing(f"X-{number}") for number in range(count)
        ]
        answer = await member.ask(
            "{ xinghui_showings { hall offer { nameZh } } coalition { nameZh } }"
        )
        assert set(answer.codes) == codes
        assert answer.body["data"]["coalition"]
        assert len(answer.body["data"]["xinghui_showings"]) == count


@on_sqlite
async def test_looking_up_costs_by_the_object(place):
    member = await place.gateway.member("mbr_demo_01")
    query = "query($r: [_Any!]!) { _entities(representations: $r) { ... on Offer { id } } }"
    answer = await member.ask(query, r=[{"__typename": "Offer", "id": "XH-01"}] * 50)
    assert answer.body["extensions"]["cost"]["requested"] == 51


@on_sqlite
async def test_an_event_brings_merchants_fields(place):
    await place.publish()
    member = await place.gateway.member("mbr_demo_01")
    quote = await member.did(
        "requestQuote", "quote { id }", offer="XH-01", legs=[{"programme": "P-LL"}]
    )
    made = await member.did("holdRedemption", "redemption { id }", quote=quote["quote"]["id"])
    redemption = made["redemption"]["id"]
    query = "subscription($id: ID!) { redemptionUpdated(id: $id) { redemption { xinghui_seat } } }"
    async with subscribed(place.gateway.base, member.token) as client:
        await client.follow(query, id=redemption)
        assert (await client.next())["redemption"] == {"xinghui_seat": "7-12"}
        place.cinema.status = 500
        await member.did("confirmRedemption", "redemption { state }", redemption=redemption)
        payload = (await client.hear())["payload"]
        assert payload["data"]["redemptionUpdated"]["redemption"] == {"xinghui_seat": None}
        assert payload["errors"][0]["extensions"]["code"] == "PARTNER_UNAVAILABLE"


@on_sqlite
async def test_a_gateway_with_another_schema_composes_for_itself(place):
    """As while an old version and a new one run side by side."""
    await place.publish()
    tea = SDL.replace("xinghui_", "chawei_").replace("Xinghui_", "Chawei_")
    await place.publish(tea, merchant="M06")
    graphs = place.gateway.app.state.graphs
    newer = subgraph_sdl() + "enum Chawei_Showing { OURS_NOW }\n"
    newer = newer.replace(
        "  coalition: Coalition!", "  showing: Chawei_Showing\n  coalition: Coalition!"
    )
    other = Graphs(
        place.gateway.runtime.database,
        graphs.schema,
        Ours(newer, ours().schema),
        service_for=graphs._service_for,
        settings=graphs._settings,
    )
    assert await other.refresh() is True
    assert other.current.members == {"M05"}
    assert graphs.current.members == {"M05", "M06"}
    assert await other.refresh() is False


@on_sqlite
async def test_requests_end_on_the_graph_they_began_with(place):
    await place.publish()
    place.cinema.seconds = 0.3
    member = await place.gateway.member("mbr_demo_01")
    asking = asyncio.create_task(member.data(OFFER))
    while not place.cinema.seen:
        await asyncio.sleep(0.01)
    async with place.gateway.runtime.database.transaction() as tx:
        await subgraphs.roll_back(tx, to=None, actor="usr_operator", now=system_now())
    await place.gateway.app.state.graphs.refresh()
    assert (await member.ask(OFFER)).codes == ["MALFORMED_REQUEST"] * 2
    assert (await asking)["offer"]["xinghui_blurb"] == "2D电影票!"


@pytest.mark.parametrize("mode", ["sandbox", "live"])
@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "http://10.1.2.3:8080/graphql", "https://127.0.0.1/"]
)
async def test_a_subgraphs_address_is_checked_at_every_call(tmp_path, mode, url):
    """Whatever a name led to when it was published."""
    settings = Settings(home=tmp_path, mode=mode)
    known = {"M05": connection("M05", "https://issuer.example")}
    runtime = SimpleNamespace(settings=settings, connections=known, clock=Clock())
    client = Runtime.subgraph_client(runtime, "M05")
    client.auth = None  # The token comes first, from an address that the operator gave.
    if mode == "sandbox" and "127.0.0.1" in url:
        assert isinstance(client._transport._inner, LoopbackToo)
    else:
        with pytest.raises(httpx2.ConnectError, match=r"not an? (https|public) address"):
            await client.post(url, content=b"{}")
    await client.aclose()
