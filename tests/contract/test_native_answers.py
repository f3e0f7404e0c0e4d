"""How the adapters classify what comes back: three kinds, and doubt is never guessed."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import httpx2
import pytest

from gateway.errors import OutcomeUnknown, PartnerRejected, PartnerUnavailable
from gateway.ports import (
    CancelTooLate,
    Claim,
    HoldExpired,
    Partner,
    PriceChanged,
    QuoteExpired,
    QuoteRequest,
    SlotFull,
    SoldOut,
)
from partners.car_shops import CarShops
from partners.cinemas import Cinemas
from partners.graphql import GraphQLPartner
from partners.hotels import Hotels
from partners.rides import Rides

Answer = Callable[[httpx2.Request], httpx2.Response]
NOON = datetime(2026, 11, 20, 4, tzinfo=UTC)
ADAPTERS = [Hotels, CarShops, Rides, Cinemas, GraphQLPartner]
REQUEST = QuoteRequest("X-01", None, 1, None, "pm_1")


def speaking(adapter: Callable[[str, httpx2.AsyncClient], Partner], answer: Answer) -> Partner:
    """The adapter, on a partner that always gives this answer."""
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer), base_url="http://partner")
    return adapter("M00", client)


async def hold(partner: Partner) -> object:
    claims = [Claim("M04", 1_000)]
    return await partner.hold("q1", op_key="red_1:hold:1", ttl_seconds=60, claims=claims)


async def confirm(partner: Partner) -> object:
    return await partner.confirm("h1", op_key="red_1:confirm:1", deadline=NOON, gateway_ref="red_1")


async def fence(partner: Partner) -> object:
    return await partner.fence("red_1:hold:1")


async def cancel(partner: Partner) -> object:
    return await partner.cancel("c1", op_key="red_1:cancel:1")


async def quote(partner: Partner) -> object:
    return await partner.quote(REQUEST)


async def status(partner: Partner) -> object:
    return await partner.status("red_1:hold:1")


async def statement(partner: Partner) -> object:
    return await partner.statement(date(2026, 11, 20))


async def live(partner: Partner) -> object:
    return await partner.live(["X-01"], on=None)


async def offers(partner: Partner) -> object:
    return await partner.list_offers(None)


def raised(error: Exception) -> Answer:
    def answer(_: httpx2.Request) -> httpx2.Response:
        raise error

    return answer


def said(status_code: int, body: Any = None, **more: Any) -> Answer:
    return lambda _: httpx2.Response(status_code, json=body, **more)


WITH_EFFECT = [hold, confirm, fence, cancel]
HARMLESS = [quote, status, statement, live, offers]
DOUBTFUL = {
    "read timeout": raised(httpx2.ReadTimeout("")),
    "reset after sending": raised(httpx2.ReadError("")),
    "connection closed": raised(httpx2.RemoteProtocolError("")),
    "500": said(500, {"oops": 1}),
    "503 without words": said(503),
    "404 without words": said(404, {}),
    "409 with unknown words": said(409, {"type": "/problems/mood", "error": {"code": "mood"}}),
    "200 that is no JSON": lambda _: httpx2.Response(200, content=b"<html>"),
    "200 that is no text": lambda _: httpx2.Response(200, content=b"\xff\xfe\x00"),
    "200 of another shape": said(200, {"data": {"answer": {"ok": True}}}),
    "200 with a list": said(200, [1]),
    "200 with nothing": said(200, None),
    "200 with errors nobody knows": said(200, {"data": None, "errors": [{"message": "?"}]}),
    "200 with errors of no shape": said(200, {"data": None, "errors": ["?"], "error": "?"}),
}
NOT_SENT = {
    "refused": raised(httpx2.ConnectError("")),
    "no connection in time": raised(httpx2.ConnectTimeout("")),
    "no free connection": raised(httpx2.PoolTimeout("")),
    "401": said(401, {}),
    "403": said(403, {}),
    "429": said(429, {}, headers={"Retry-After": "7"}),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("verb", WITH_EFFECT)
@pytest.mark.parametrize("answer", DOUBTFUL.values(), ids=DOUBTFUL)
async def test_a_verb_with_effect_and_no_readable_answer_is_doubt(adapter, verb, answer):
    with pytest.raises(OutcomeUnknown):
        await verb(speaking(adapter, answer))


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("verb", HARMLESS)
@pytest.mark.parametrize("answer", DOUBTFUL.values(), ids=DOUBTFUL)
async def test_a_harmless_verb_without_answer_may_be_asked_again(adapter, verb, answer):
    with pytest.raises(PartnerUnavailable):
        await verb(speaking(adapter, answer))


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("verb", [*WITH_EFFECT, *HARMLESS])
@pytest.mark.parametrize("answer", NOT_SENT.values(), ids=NOT_SENT)
async def test_what_was_not_let_in_had_no_effect(adapter, verb, answer):
    with pytest.raises(PartnerUnavailable) as refusal:
        await verb(speaking(adapter, answer))
    assert refusal.value.context["merchant"] == "M00"


def problem(word: str, **more: object) -> Answer:
    return said(409, {"type": f"https://hotel/problems/{word}", "status": 409, **more})


def in_200(word: str, **more: object) -> Answer:
    return said(200, {"data": {"field": {"problem": {"code": word, "text": "…", **more}}}})


def error(word: str, **more: object) -> Answer:
    return said(422, {"error": {"code": word, **more}})


def payload(error_class: str, code: str, **context: object) -> Answer:
    refused = {"class": error_class, "code": code, "context": context}
    return said(200, {"data": {"field": {"errors": [refused]}}})


@pytest.mark.parametrize(
    ("adapter", "answer", "expected", "context"),
    [
        (Hotels, problem("sold-out"), SoldOut, {}),
        (
            Hotels,
            problem("no-room", night="2026-12-24", other_night="2026-12-26", rooms_left=3),
            SlotFull,
            {"slot": "2026-12-24", "alternative": "2026-12-26", "left": 3},
        ),
        (Hotels, problem("rate-quote-expired", expired_at="x"), QuoteExpired, {"expired_at": "x"}),
        (Hotels, problem("reservation-released", expired_at="x"), HoldExpired, {"expired_at": "x"}),
        (Hotels, problem("rate-changed", total_fen=9), PriceChanged, {"new_list_fen": 9}),
        (Hotels, problem("cancellation-closed", free_until="x"), CancelTooLate, {"until": "x"}),
        (
            Hotels,
            problem("booking-required"),
            PartnerRejected,
            {"merchant": "M00", "reason": "BOOKING_REQUIRED"},
        ),
        (CarShops, in_200("NOT_ON_SHELF"), SoldOut, {}),
        (CarShops, in_200("NO_BAY", bay="b", baysLeft=2), SlotFull, {"slot": "b", "left": 2}),
        (CarShops, in_200("ESTIMATE_LAPSED", at="x"), QuoteExpired, {"expired_at": "x"}),
        (CarShops, in_200("APPOINTMENT_LAPSED", at="x"), HoldExpired, {"expired_at": "x"}),
        (CarShops, in_200("TOTAL_CHANGED", newTotalFen=9), PriceChanged, {"new_list_fen": 9}),
        (CarShops, in_200("CAR_CHECKED_IN", at="x"), CancelTooLate, {"until": "x"}),
        (CarShops, in_200("NO_SUCH_ITEM"), PartnerRejected, {"reason": "UNKNOWN_OFFER"}),
        (
            Cinemas,
            error("HOUSE_FULL", show="s", alternative="t", left=2),
            SlotFull,
            {"slot": "s", "alternative": "t", "left": 2},
        ),
        (Cinemas, error("PRICE_LAPSED", expired_at="x"), QuoteExpired, {"expired_at": "x"}),
        (Cinemas, error("LOCK_LAPSED", expired_at="x"), HoldExpired, {"expired_at": "x"}),
        (Cinemas, error("REPRICED", fen=9), PriceChanged, {"new_list_fen": 9}),
        (Cinemas, error("REFUND_CLOSED", until="x"), CancelTooLate, {"until": "x"}),
        (Cinemas, error("BARRED"), PartnerRejected, {"reason": "FENCED"}),
        (GraphQLPartner, payload("DECLINED_FINAL", "SOLD_OUT"), SoldOut, {}),
        (GraphQLPartner, payload("DECLINED_FINAL", "MOOD"), PartnerRejected, {"reason": "MOOD"}),
        (
            GraphQLPartner,
            payload("PRICE_CHANGED", "MOOD", new_list_fen=9),
            PriceChanged,
            {"new_list_fen": 9},
        ),
        (Rides, error("promo_gone"), SoldOut, {}),
        (
            Rides,
            error("pickup_full", pickup="p", next_pickup="q", cars_left=4),
            SlotFull,
            {"slot": "p", "alternative": "q", "left": 4},
        ),
        (Rides, error("estimate_over", over_since="x"), QuoteExpired, {"expired_at": "x"}),
        (Rides, error("fare_moved", fare_fen=9), PriceChanged, {"new_list_fen": 9}),
        (Rides, error("withdrawal_too_late", possible_until="x"), CancelTooLate, {"until": "x"}),
        (Rides, error("request_blocked"), PartnerRejected, {"reason": "FENCED"}),
    ],
)
@pytest.mark.parametrize("verb", [hold, quote])
async def test_a_no_in_the_partners_words_is_a_no_in_ours(adapter, answer, expected, context, verb):
    with pytest.raises(PartnerRejected) as refusal:
        await verb(speaking(adapter, answer))

    assert type(refusal.value) is expected
    assert refusal.value.context.items() >= context.items()


@pytest.mark.parametrize(
    ("adapter", "answer", "reason"),
    [
        (Hotels, problem("request-in-progress"), "KEY_IN_FLIGHT"),
        (Hotels, problem("request-key-reused"), "KEY_CONFLICT"),
        (CarShops, in_200("INSTRUCTION_IN_HAND"), "KEY_IN_FLIGHT"),
        (CarShops, in_200("INSTRUCTION_REUSED"), "KEY_CONFLICT"),
        (Cinemas, error("KEY_BUSY"), "KEY_IN_FLIGHT"),
        (Cinemas, error("KEY_REUSED"), "KEY_CONFLICT"),
        (GraphQLPartner, payload("IN_FLIGHT_KEY", "MOOD"), "KEY_IN_FLIGHT"),
        (GraphQLPartner, payload("CONFLICT_KEY", "MOOD"), "KEY_CONFLICT"),
        (Rides, error("request_running"), "KEY_IN_FLIGHT"),
        (Rides, error("request_id_reused"), "KEY_CONFLICT"),
    ],
)
async def test_a_key_in_flight_or_in_conflict_is_doubt(adapter, answer, reason):
    with pytest.raises(OutcomeUnknown) as doubt:
        await confirm(speaking(adapter, answer))
    assert doubt.value.context["reason"] == reason


async def test_a_no_under_a_200_is_a_no():
    with pytest.raises(SoldOut):
        await confirm(speaking(Rides, said(200, {"error": {"code": "promo_gone"}})))


async def test_a_server_error_is_doubt_whatever_it_says():
    with pytest.raises(OutcomeUnknown):
        await confirm(speaking(Rides, said(503, {"error": {"code": "pickup_full"}})))


OTHER = "red_2:confirm:1"
FACT = {"outcome": "CONFIRMED", "version": 1, "bookingRef": "b", "holdRef": "h"}
FACT |= {"expiresAt": None, "reason": None, "artefacts": {}}


@pytest.mark.parametrize(
    ("adapter", "other"),
    [
        (Rides, {"request_id": OTHER, "status": "accepted", "seq": 1}),
        (Cinemas, {"request": OTHER, "state": "ISSUED", "rev": 1}),
        (GraphQLPartner, {"data": {"confirm": {"fact": {"opKey": OTHER, **FACT}, "errors": []}}}),
    ],
)
async def test_an_answer_about_another_request_is_no_answer(adapter, other):
    with pytest.raises(OutcomeUnknown):
        await confirm(speaking(adapter, said(200, other)))


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(
    "body", [{}, {"event": "mood"}, {"type": "trip.ended", "data": None}, {"workOrder": {}}]
)
def test_a_webhook_nobody_knows_is_a_value_error(adapter, body):
    with pytest.raises(ValueError, match="M00"):
        speaking(adapter, said(200)).event(body)
