"""The times, nights and seats of a business day, under the ids a merchant gives them. Pure.

A time is its start in Shanghai, as in `2026-11-21T19:40:00+08:00`; a night is its date; a flight
is its number and date, as in `YT801 2026-11-25`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from gateway.values import SHANGHAI, business_day

SHARED_POOLS = ("workshop", "designer", "pickup")  # One crew serves every offer of the kind.
NEXT_DAYS = {"event": 14, "pickup": 1}  # Days shown when none is asked for; 3 otherwise.
NIGHT_FROM = time(14)
SATURDAY = 6


@dataclass(frozen=True, slots=True)
class Opening:
    """A slot before anybody booked it."""

    id: str
    starts_at: datetime
    capacity: int


def pool_of(offer: Mapping[str, Any]) -> str:
    """The places an offer draws on: its own, or those it shares with offers of its kind."""
    kind = str(offer["slots"])
    if kind in SHARED_POOLS:
        return kind
    if kind == "rooms":
        return f"rooms:{room_of(offer)}"
    return str(offer["id"])


def room_of(offer: Mapping[str, Any]) -> str:
    return "deluxe" if offer.get("kind") == "upgrade" else "standard"


def on_day(offer: Mapping[str, Any], rules: Mapping[str, Any], day: date) -> list[Opening]:
    """The slots of an offer on a business day, in order of time."""
    kind = str(offer["slots"])
    rule = rules[kind]
    if kind == "rooms":
        start = datetime.combine(day, NIGHT_FROM, SHANGHAI)
        return [Opening(day.isoformat(), start, int(rule[room_of(offer)]))]
    if kind == "flights":
        return _flights(offer, rule, day)
    if kind == "event" and day.isoweekday() != SATURDAY:
        return []
    return [
        Opening(start.isoformat(), start, int(rule["capacity"]))
        for start in _times(rule, offer, day)
    ]


def coming(offer: Mapping[str, Any], rules: Mapping[str, Any], now: datetime) -> list[Opening]:
    """The slots of the next days that have not begun."""
    first = business_day(now)
    days = NEXT_DAYS.get(str(offer["slots"]), 3)
    return [
        opening
        for number in range(days + 1)
        for opening in on_day(offer, rules, first + timedelta(days=number))
        if opening.starts_at > now
    ]


def find(offer: Mapping[str, Any], rules: Mapping[str, Any], slot: str) -> Opening | None:
    """The slot of that id, or None when there is none."""
    try:
        day = date.fromisoformat(slot[-10:] if offer["slots"] == "flights" else slot[:10])
    except ValueError:
        return None
    return next((o for o in on_day(offer, rules, day) if o.id == slot), None)


def span(
    offer: Mapping[str, Any], rules: Mapping[str, Any], slot: str, quantity: int
) -> tuple[list[Opening], int]:
    """What a booking takes: the slots, and the places in each.

    Places of one slot; but nights follow one another, one room in each, `nights` of them a piece.
    No slots at all when one of them does not exist.
    """
    if offer["slots"] != "rooms":
        found = find(offer, rules, slot)
        return ([found] if found else []), quantity
    first = find(offer, rules, slot)
    if first is None:
        return [], 1
    day = date.fromisoformat(first.id)
    nights = quantity * int(offer.get("nights", 1))
    return [
        night
        for number in range(nights)
        for night in on_day(offer, rules, day + timedelta(days=number))
    ], 1


def _times(rule: Mapping[str, Any], offer: Mapping[str, Any], day: date) -> Iterator[datetime]:
    if rule.get("per") == "15 minutes":
        first = datetime.combine(day, time(), SHANGHAI)
        for quarter in range(96):
            yield first + timedelta(minutes=15 * quarter)
        return
    times = rule["times"]
    if "night" in rule and "night" in str(offer.get("name_en", "")):
        times = rule["night"]
    for text in times:
        yield datetime.combine(day, time.fromisoformat(str(text).split("-")[0]), SHANGHAI)


def _flights(offer: Mapping[str, Any], rule: Mapping[str, Any], day: date) -> list[Opening]:
    found = []
    for number, text in rule.items():
        if number in ("award_seats", "capacity"):
            continue
        route, clock = str(text).split(" ")
        if route in str(offer.get("name_en", "")) or offer.get("kind") == "upgrade":
            start = datetime.combine(day, time.fromisoformat(clock), SHANGHAI)
            found.append(Opening(f"{number} {day}", start, int(rule.get("capacity", 150))))
    return sorted(found, key=lambda opening: opening.starts_at)
