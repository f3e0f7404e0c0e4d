"""What the stand-ins promise by themselves: tokens, faults, survival, books, webhooks."""

import asyncio
import base64
import json
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest
from graphql import build_schema, print_schema
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey
from standardwebhooks.webhooks import Webhook

from gateway.errors import GatewayError, OutcomeUnknown, PartnerRejected, PartnerUnavailable
from gateway.ports import Claim, EventKind, Outcome, PriceChanged, SlotFull
from partners import Auth, Connection
from partners.conformance.access import token_request
from partners.conformance.stand_in import at as box_at
from partners.conformance.stand_in import merchant_of, plan
from partners.graphql import CONTRACT
from partners.simulators import generic
from partners.simulators.config import Client, Merchant
from partners.simulators.remote import Control
from partners.simulators.store import Store
from partners.simulators.tokens import OAuthError, Tokens
from tests.support import simulators
from tests.support.offers import offer
from tests.support.stands import (
    KEY,
    WEBHOOK_SECRET,
    Listener,
    Stand,
    at,
    standing,
    told,
)
from tests.support.tokens import client_for

MORNING = at("2026-11-20T08:00:00")
NEXT_DAY = at("2026-11-21T09:00:00")
DAY = date(2026, 11, 20)
SHOW = "2026-11-22T19:40:00+08:00"
OFFERS = [
    offer("XH-01", 4_500, "slot", slots="shows"),
    offer("XH-03", 3_800, "voucher"),
    offer("KX-03", 12_000, "service", pricing="estimate"),
]
KINDS = ["cinemas", "graphql"]


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture(params=KINDS)
async def stand(
    request: pytest.FixtureRequest, tmp_path: Path, listener: Listener
) -> AsyncIterator[Stand]:
    async with standing(
        request.param, tmp_path, offers=OFFERS, now=MORNING, listener=listener
    ) as made:
        yield made


def test_the_schema_served_is_the_one_published() -> None:
    published = build_schema(CONTRACT.read_text(encoding="utf-8"))

    assert print_schema(generic.schema()) == print_schema(published)


@pytest.mark.parametrize(
    ("fault", "more", "verb", "expected", "truth"),
    [
        ("confirm_times_out_before_effect", {}, "confirm", OutcomeUnknown, Outcome.NOT_FOUND),
        ("confirm_times_out_after_effect", {}, "confirm", OutcomeUnknown, Outcome.CONFIRMED),
        ("hold_times_out_before_effect", {}, "hold", OutcomeUnknown, Outcome.NOT_FOUND),
        ("hold_times_out_after_effect", {}, "hold", OutcomeUnknown, Outcome.HELD),
        ("error_5xx", {"value": "before"}, "confirm", OutcomeUnknown, Outcome.NOT_FOUND),
        ("error_5xx", {"value": "after"}, "confirm", OutcomeUnknown, Outcome.CONFIRMED),
        ("error_5xx", {"verb": "hold"}, "hold", OutcomeUnknown, Outcome.HELD),
        ("malformed_body", {}, "confirm", OutcomeUnknown, Outcome.CONFIRMED),
        ("error_in_200", {}, "confirm", PartnerRejected, Outcome.NOT_FOUND),
        ("connection_refused", {"verb": "confirm"}, "confirm", OutcomeUnknown, Outcome.NOT_FOUND),
        ("connection_refused", {"verb": "quote"}, "quote", PartnerUnavailable, None),
        ("sold_out", {}, "hold", SlotFull, Outcome.REJECTED),
        ("sold_out", {"verb": "quote"}, "quote", SlotFull, None),
        ("price_change", {"value": 4_700}, "hold", PriceChanged, Outcome.REJECTED),
        ("price_change", {"verb": "confirm"}, "confirm", PriceChanged, Outcome.REJECTED),
    ],
)
async def test_a_planted_fault_strikes_once_where_it_was_planted(
    *,
    stand: Stand,
    fault: str,
    more: dict[str, object],
    verb: str,
    expected: type[GatewayError],
    truth: Outcome | None,
) -> None:
    await stand.fault(fault, member_ref="pm_1", offer_id="XH-01", count=1, **more)
    await stand.redeem("XH-01", slot=SHOW, red="red_9", member_ref="pm_2")  # Not for this member.

    with pytest.raises(expected):
        await stand.redeem("XH-01", slot=SHOW)

    if truth is not None:
        assert (await stand.partner.status(f"red_1:{verb}:1")).outcome is truth
    await stand.redeem("XH-01", slot=SHOW, red="red_2")  # Used up.


async def test_a_shorter_hold_is_echoed(stand: Stand) -> None:
    await stand.fault("shorter_hold", value=120)

    held = await stand.hold(await stand.quote("XH-01", slot=SHOW))

    assert held.expires_at == stand.clock.now + timedelta(seconds=120)


async def test_a_confirm_left_pending_is_decided_later(stand: Stand, listener: Listener) -> None:
    await stand.fault("confirm_pending", count=1)
    fact = await stand.redeem("XH-01", slot=SHOW)
    await stand.event("decide", fact.booking_ref or "", confirmed=True)
    event = await told(stand, listener, 1)

    assert fact.outcome is Outcome.IN_FLIGHT
    assert (event.kind, event.version, event.op_key) == (EventKind.CONFIRMED, 1, "red_1:confirm:1")
    assert (await stand.partner.status("red_1:confirm:1")).outcome is Outcome.CONFIRMED


async def test_a_webhook_is_signed_and_a_planted_double_comes_twice(
    stand: Stand, listener: Listener
) -> None:
    await stand.fault("duplicate_webhook", count=1)
    fact = await stand.redeem("XH-01", slot=SHOW)
    await stand.event("fulfil", fact.booking_ref or "")
    event = await told(stand, listener, 2)

    for headers, body in listener.taken:
        Webhook(WEBHOOK_SECRET).verify(body, headers)
    assert len({headers["webhook-id"] for headers, _ in listener.taken}) == 1
    assert (event.kind, event.version) == (EventKind.FULFILLED, 2)


async def test_a_booking_cancelled_twice_is_told_under_two_ids(
    stand: Stand, listener: Listener
) -> None:
    await stand.fault("booking_cancelled_twice", member_ref="pm_1", offer_id="XH-01")
    fact = await stand.redeem("XH-01", slot=SHOW)
    await stand.event("cancel", fact.booking_ref or "")
    await told(stand, listener, 2)

    events = [stand.partner.event(json.loads(body)) for _, body in listener.taken]
    assert {event.kind for event in events} == {EventKind.CANCELLED}
    assert len({event.event_id for event in events}) == 2
    assert {event.version for event in events} == {2}


async def test_a_shut_door_refuses_and_opens_again_with_everything(stand: Stand) -> None:
    fact = await stand.redeem("XH-03")
    await stand.control.post(f"/merchants/{stand.merchant}/stop")

    with pytest.raises(PartnerUnavailable):
        await stand.quote("XH-03")
    with pytest.raises(PartnerUnavailable):  # Nothing was sent: no doubt, though it has an effect.
        await stand.partner.fence("red_7:hold:1")

    await stand.control.post(f"/merchants/{stand.merchant}/start")
    assert (await stand.partner.status("red_1:confirm:1")).booking_ref == fact.booking_ref


async def test_the_feed_goes_on_where_it_was_left_and_tells_deletions(stand: Stand) -> None:
    first = await stand.partner.list_offers(None)
    path = f"/merchants/{stand.merchant}/offers"
    await stand.control.post(path, json={"id": "XH-03", "change": None})
    await stand.control.post(path, json={"id": "XH-01", "change": {"cash_fen": 4_700}})
    second = await stand.partner.list_offers(first.cursor)

    assert [(row.id, row.version, row.deleted) for row in second.offers] == [
        ("XH-03", 2, True),
        ("XH-01", 2, False),
    ]
    assert (await stand.partner.list_offers(second.cursor)).offers == ()
    assert [row.list_fen for row in await stand.partner.live(["XH-01", "XH-03"], on=None)] == [
        4_700
    ]
    with pytest.raises(PartnerRejected):
        await stand.quote("XH-03")


async def test_the_books_of_a_day_with_planted_faults(stand: Stand) -> None:
    faults = {
        "statement_row_missing": None,
        "statement_row_doubled": None,
        "statement_list_fen": 4_600,
        "statement_amount_off": 7,
    }
    for number, (fault, value) in enumerate(faults.items(), 1):
        await stand.fault(fault, member_ref=f"pm_{number}", offer_id="XH-01", value=value)
    for number in range(1, 6):
        red = f"red_{number}"
        fact = await stand.redeem("XH-01", slot=SHOW, red=red, member_ref=f"pm_{number}")
        await stand.event("fulfil", fact.booking_ref or "")
    gone = await stand.redeem("XH-03", red="red_6", member_ref="pm_6")
    await stand.cancel(gone, red="red_6")
    claims = [Claim("M04", 8_000), Claim(stand.merchant, 4_000)]
    ride = await stand.redeem("KX-03", red="red_7", claims=claims, member_ref="pm_7")
    for _ in range(2):
        await stand.event("fulfil", ride.booking_ref or "", final_fare_fen=7_500)

    with pytest.raises(PartnerRejected):
        await stand.partner.statement(DAY)
    stand.clock.now = NEXT_DAY
    statement = await stand.partner.statement(DAY)

    assert [(line.gateway_ref, line.type, line.amount_fen) for line in statement.lines] == [
        ("red_2", "REDEMPTION", 4_050),
        ("red_2", "REDEMPTION", 4_050),
        ("red_3", "REDEMPTION", 4_140),
        ("red_4", "REDEMPTION", 4_057),
        ("red_5", "REDEMPTION", 4_050),
        ("red_6", "REDEMPTION", 3_420),
        ("red_6", "REVERSAL", -3_420),
        ("red_7", "REDEMPTION", 7_200),
        ("red_7", "REVERSAL", -450),
    ]
    assert statement.trailer_sum_fen == sum(line.amount_fen for line in statement.lines)


async def test_a_long_statement_comes_in_pages(stand: Stand) -> None:
    for number in range(120):
        red = f"red_{number}"
        fact = await stand.redeem("XH-03", red=red)
        await stand.event("fulfil", fact.booking_ref or "")
    stand.clock.now = NEXT_DAY
    statement = await stand.partner.statement(DAY)

    assert [line.line for line in statement.lines] == list(range(1, 121))
    assert statement.trailer_count == 120


async def test_a_slot_that_is_not_named_is_the_next_with_room(stand: Stand) -> None:
    fact = await stand.redeem("XH-01")

    assert "2026-11-20T10:10:00+08:00" in fact.artefacts.values()


def _assertion(connection: Connection, header: dict[str, str], key: object) -> bytes:
    now = int(time.time())
    claims = {"iss": "gateway", "sub": "gateway", "aud": connection.audience, "jti": uuid4().hex}
    token = jwt.encode(header, {**claims, "iat": now, "exp": now + 60}, key, [header["alg"]])
    kind = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
    form = f"grant_type=client_credentials&client_assertion_type={kind}&client_assertion={token}"
    return form.encode()


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    async with standing("graphql", tmp_path, offers=OFFERS, now=MORNING) as made:
        url = str(made.http.base_url).rstrip("/")
        auth = Auth("private_key_jwt", "gateway", key=KEY.as_dict(private=True))
        yield Connection("M00", "graphql", url, f"{url}/oauth/token", auth, audience=url)


async def test_an_assertion_is_used_once_however_many_try(connection: Connection) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        jti = uuid4().hex
        tries = [http.send(token_request(connection, jti=jti)) for _ in range(20)]
        answers = await asyncio.gather(*tries)

    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["ISSUER"]},
        {"aud": "https://elsewhere.example"},
        {"iss": "somebody"},
        {"exp": None},
        {"exp": 4_102_444_800},
        {"jti": None},
        {"jti": ""},
    ],
    ids=str,
)
async def test_an_assertion_that_breaks_a_rule_gives_no_token(
    connection: Connection, claims: dict[str, object]
) -> None:
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.send(token_request(connection, **claims))

    assert (answer.status_code, answer.json()) == (401, {"error": "invalid_client"})


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ({"alg": "HS256", "kid": "gateway-1"}, OctKey.generate_key(256)),
        ({"alg": "ES256", "kid": "gateway-2"}, KEY),
        ({"alg": "ES384", "kid": "gateway-1"}, ECKey.generate_key("P-384")),
        ({"alg": "ES256", "kid": "gateway-1"}, ECKey.generate_key("P-256")),
    ],
    ids=["shared secret", "unknown kid", "other algorithm", "other key"],
)
async def test_an_assertion_of_another_key_gives_no_token(
    connection: Connection, header: dict[str, str], key: object
) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    content = _assertion(connection, header, key)
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.post(connection.token_url, content=content, headers=headers)

    assert (answer.status_code, answer.json()) == (401, {"error": "invalid_client"})


async def test_an_ed25519_key_signs_as_well(tmp_path: Path) -> None:
    key = OKPKey.generate_key("Ed25519", {"kid": "ed-1"})
    client = {"client_id": "gateway", "jwks": {"keys": [key.as_dict(private=False)]}}
    async with standing("graphql", tmp_path, offers=[], now=MORNING, clients=[client]) as made:
        url = str(made.http.base_url).rstrip("/")
        auth = Auth("private_key_jwt", "gateway", key=key.as_dict(private=True))
        connection = Connection("M00", "graphql", url, f"{url}/oauth/token", auth, audience=url)
        with pytest.warns(SecurityWarning, match="RFC 9864"):
            form = _assertion(connection, {"alg": "EdDSA", "kid": "ed-1"}, key)
        headers = {"content-type": "application/x-www-form-urlencoded"}
        for request in (
            token_request(connection),
            httpx2.Request("POST", connection.token_url, content=form, headers=headers),
        ):
            assert (await made.control.send(request)).status_code == 200


async def test_another_service_of_the_merchants_asks_whose_a_token_is(tmp_path: Path) -> None:
    clients = (Client("gateway", secret="s"), Client("graph", ("introspection",), secret="g"))
    merchant = Merchant("M00", "graphql", clients=clients)
    store = Store(tmp_path / "M00.db")
    tokens = Tokens(store, merchant, issuer="https://x.example")
    asked = {"grant_type": "client_credentials", "scope": "offers"}
    token = tokens.issue(asked, _basic("gateway", "s"))["access_token"]

    found = tokens.introspect({"token": token}, _basic("graph", "g"))
    assert {name: found[name] for name in ("active", "client_id", "scope")} == {
        "active": True,
        "client_id": "gateway",
        "scope": "offers",
    }
    unknown = [{"token": "other"}, {}]
    assert [tokens.introspect(each, _basic("graph", "g")) for each in unknown] == [
        {"active": False}
    ] * 2
    for authorization, code in (
        (_basic("gateway", "s"), "insufficient_scope"),
        (_basic("graph", "other"), "invalid_client"),
        (None, "invalid_client"),
    ):
        with pytest.raises(OAuthError, match=code):
            tokens.introspect({"token": token}, authorization)
    tokens.expire_all()
    assert tokens.introspect({"token": token}, _basic("graph", "g")) == {"active": False}
    store.close()


def _basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


async def test_the_control_port_asks_for_its_token(stand: Stand) -> None:
    answer = await stand.control.get("/health", headers={"authorization": "Bearer nobody"})

    assert answer.status_code == 401


@pytest.mark.slow
async def test_a_killed_process_loses_nothing_it_answered(tmp_path: Path) -> None:
    planned = plan(["graphql"])
    code = merchant_of("graphql")
    with simulators.running(planned.document, tmp_path) as first:
        connection = planned.connection("graphql", first.ports["merchants"][code])
        async with box_at(connection, client_for) as box:
            _, redemption, fact = await box.booked()
            await box.partner.fence("red_never:hold:1")
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
    with simulators.running(planned.document, tmp_path) as second:
        connection = planned.connection("graphql", second.ports["merchants"][code])
        async with box_at(connection, client_for) as box:
            kept = await box.partner.status(f"{redemption}:confirm:1")
            fenced = await box.partner.status("red_never:hold:1")

    assert (kept.outcome, kept.booking_ref) == (Outcome.CONFIRMED, fact.booking_ref)
    assert kept.artefacts == fact.artefacts
    assert fenced.outcome is Outcome.FENCED


@pytest.mark.slow
async def test_sixteen_merchants_start_fast_and_end_cleanly(tmp_path: Path) -> None:
    offers = [dict(one, id=f"O-{number}") for number in range(8) for one in OFFERS[:1]]
    merchants = [
        {"id": f"M{number:02}", "kind": "graphql", "offers": offers} for number in range(16)
    ]
    document = {"merchants": merchants, "control": {"token": "t"}}
    with simulators.running(document, tmp_path) as process:
        control = Control(process.ports["control"], "t")
        state = await control.state("M15")
        await control.aclose()
        assert process.seconds < 30, f"took {process.seconds:.1f} s on a busy machine"
        process.process.terminate()
        assert process.process.wait(60) == 0
    assert state["bookings"] == []


def test_an_unknown_kind_is_refused_at_once(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"merchants": [{"id": "M00", "kind": "zoo"}]}))
    command = [*simulators.COMMAND, "--config", str(config), "--state", str(tmp_path)]
    ended = subprocess.run(
        command, cwd=simulators.ROOT, capture_output=True, text=True, check=False, timeout=120
    )

    assert ended.returncode != 0
    assert "no such kind of simulator: zoo" in ended.stderr
