"""What must hold when all is over: nothing acknowledged is lost, nothing has happened twice.

Three books are compared: what the clients wrote down, what the gateway's database says, and what
each partner's own file says. Balances are worked out again from the first and the third alone.
"""

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from gateway.points import service as points
from tests.chaos.clients import BUYS, Client, Load
from tests.chaos.fleet import MERCHANTS, Fleet
from tests.support.receiver import Receiver

DRAIN_SECONDS = 180.0
SUBSCRIBER = "M05"  # has an endpoint for events, which never fails
UNDER_WAY = ("HOLDING", "CONFIRMING", "IN_DOUBT", "RELEASING", "CANCELLING")
BOOKED = {"COMMITTED": "CONFIRMED", "FULFILLED": "FULFILLED", "CANCELLED": "CANCELLED"}
BOOKED |= {"LATE_CONFIRMED": "CONFIRMED"}
_UNSENT = (
    "SELECT e.object_id, e.seq FROM events e JOIN redemptions r ON r.id = e.object_id"
    " WHERE r.merchant_id = :merchant AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d"
    " WHERE d.number = e.number AND d.state = 'DELIVERED')"
)
Wallets = dict[tuple[str, str], int]  # (member, programme): available points


@dataclass
class Books:
    """Everything both sides have written, read once when all is quiet."""

    redemptions: Mapping[str, Any]
    legs: Mapping[str, list[Any]]
    bookings: Mapping[str, list[Any]]  # by redemption
    partner_holds: Sequence[tuple[str, str]]  # (op key, state)
    obligations: Mapping[str, list[Any]]
    point_holds: Sequence[Any]
    jobs: Sequence[Any]
    events: Mapping[str, list[Any]]  # by redemption


@dataclass
class Verdict:
    """What was looked at, and everything that is wrong."""

    states: Counter[str] = field(default_factory=Counter)
    looked: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def require(self, holds: bool, what: str) -> None:
        if not holds:
            self.violations.append(what)


async def wallets(fleet: Fleet) -> Wallets:
    """Available points of every member who shops."""
    found: Wallets = {}
    now = await fleet.now()
    async with fleet.database.reading() as tx:
        for member in sorted({buy.member for buy in BUYS}):
            for wallet in await points.wallets(tx, member, now=now):
                found[member, wallet.programme_id] = wallet.available
    return found


async def quiet(fleet: Fleet) -> list[str]:
    """Faults end; the workers finish what is under way, and what nobody confirmed expires.

    Returns:
        What is not finished in time.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            await fleet.control.clear()
            await fleet.all_up()
            await _nothing(fleet, UNDER_WAY, 10)
            for _ in range(12):  # Polls back off, and forgotten holds expire: by business time.
                await fleet.jump(timedelta(minutes=5))
                if await _nothing(fleet, (*UNDER_WAY, "HELD"), 10):
                    break
            while await _waiting(fleet):
                await asyncio.sleep(0.1)
    return await _under_way(fleet, (*UNDER_WAY, "HELD")) + await _waiting(fleet)


async def _nothing(fleet: Fleet, states: Iterable[str], seconds: float) -> bool:
    """Wait until no redemption is in one of these states, or for so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await _under_way(fleet, states):
                await asyncio.sleep(0.1)
            return True
    return False


async def _under_way(fleet: Fleet, states: Iterable[str]) -> list[str]:
    query = sa.text("SELECT id, state FROM redemptions WHERE state IN :states")
    query = query.bindparams(sa.bindparam("states", list(states), expanding=True))
    async with fleet.database.reading() as tx:
        return [f"{row.id} is still {row.state}" for row in await tx.execute(query)]


async def _waiting(fleet: Fleet) -> list[str]:
    """Webhooks and jobs that are not done."""
    found = []
    for merchant in MERCHANTS:
        rows = await asyncio.to_thread(
            _partner, fleet, merchant, "SELECT event_id FROM events WHERE done IS NULL"
        )
        found += [f"{merchant}: webhook {row['event_id']} is not delivered" for row in rows]
    async with fleet.database.reading() as tx:
        rows = await tx.execute(sa.text("SELECT name, state FROM jobs WHERE state <> 'DONE'"))
        found += [f"job {row.name} is {row.state}" for row in rows]
        rows = await tx.execute(sa.text(_UNSENT), {"merchant": SUBSCRIBER})
        return found + [f"event {row.seq} of {row.object_id} is not sent" for row in rows]


async def judge(
    fleet: Fleet, load: Load, clients: Sequence[Client], opening: Wallets, shop: Receiver
) -> Verdict:
    """Look at everything.

    Args:
        shop: The endpoint that all events of one merchant's redemptions were sent to.
    """
    verdict = Verdict(violations=[*load.wrong, *fleet.deaths.surprises, *await quiet(fleet)])
    books = await _read(fleet)
    verdict.states.update(row.state for row in books.redemptions.values())
    answers = load.journal.read()
    verdict.require(len(answers) == load.answered, "the clients' journal is incomplete")
    _acknowledged(verdict, books, answers, load.journal.asked)
    _partners_agree(verdict, books)
    _owed_once(verdict, books)
    _heard(verdict, books, shop)
    await _balances(verdict, fleet, books, answers, opening)
    await _replayed(verdict, books, clients, answers)
    verdict.violations += await fleet.broken_invariants()
    return verdict


def _heard(verdict: Verdict, books: Books, shop: Receiver) -> None:
    """The merchant got every event of its redemptions, and none before the one before it."""
    for redemption in books.redemptions.values():
        if redemption.merchant_id != SUBSCRIBER:
            continue
        verdict.looked["redemptions told to an endpoint"] += 1
        first_times = list(dict.fromkeys(shop.order(redemption.id)))
        there = books.events[redemption.id]
        verdict.looked["events sent"] += len(there)
        verdict.require(
            first_times == list(range(1, len(there) + 1)),
            f"{redemption.id}: {len(there)} events, and the merchant got {first_times}",
        )
    verdict.looked["events sent more than once"] = len(shop.taken) - verdict.looked["events sent"]
    verdict.require(not shop.refused, f"{shop.refused} events were signed wrongly")


# -- the clients' journal against the gateway's books ---------------------------------------------


def _acknowledged(
    verdict: Verdict,
    books: Books,
    answers: Sequence[Mapping[str, Any]],
    asked: set[tuple[str, str]],
) -> None:
    """Every acknowledged redemption is in the acknowledged state, or in a later one."""
    bought = {
        row["object"]["id"] for row in answers if row["mutation"] == "redeemOffer" and row["object"]
    }
    for row in answers:
        if "edemption" not in row["mutation"] and row["mutation"] != "redeemOffer":
            continue
        told = row["object"] or {"id": row["input"].get("redemption"), "state": "refused"}
        if told["id"] is None:
            continue  # Refused before anything was made.
        verdict.looked["acknowledged states"] += 1
        stored = books.redemptions.get(told["id"])
        if stored is None:
            verdict.violations.append(f"{told['id']} was acknowledged and is lost")
            continue
        confirmed = told["id"] in bought or (told["id"], "confirmRedemption") in asked
        cancelled = (told["id"], "cancelRedemption") in asked
        possible = _possible(told["state"], confirmed=confirmed, cancelled=cancelled)
        verdict.require(
            stored.state in possible,
            f"{told['id']}: {row['mutation']} said {told['state']}, and it is {stored.state}",
        )


def _possible(told: str, *, confirmed: bool, cancelled: bool) -> set[str]:
    """The final states that do not contradict what a client was told."""
    after_commit = {"COMMITTED", "FULFILLED"} | ({"CANCELLED"} if cancelled else set())
    if told in ("COMMITTED", "FULFILLED"):
        return after_commit
    if told == "CANCELLING":
        return {"CANCELLED", "COMMITTED"}
    if told in ("CANCELLED", "RELEASED"):
        return {told}
    if told == "RELEASING":
        return {"RELEASED"}
    return {"RELEASED"} | (after_commit if confirmed else set())


async def _replayed(
    verdict: Verdict,
    books: Books,
    clients: Sequence[Client],
    answers: Sequence[Mapping[str, Any]],
) -> None:
    """Each key, sent once more, names the same object, or the partner's no that ended it.

    A try that comes while the first one waits for the partner is told the object as it is then;
    what the partner has answered since is told from then on.
    """
    by_name = {client.who: client for client in clients}
    todo = [row for row in answers if row["object"] and row["mutation"] != "requestCancellation"]
    random.Random(1).shuffle(todo)  # Spread over clients.
    once = list({(row["who"], row["key"]): row for row in todo}.values())

    async def some(rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            asked = row["input"] | {"idempotencyKey": row["key"]}
            payload = None
            while payload is None:
                payload = await by_name[row["who"]]._try(row["mutation"], asked)
            found = next((payload[name] for name in _NAMES if payload.get(name)), None)
            same = found["id"] == row["object"]["id"] if found else _ended(books, row, payload)
            known = payload["replayed"] and same
            verdict.require(bool(known), f"{row['mutation']} {row['key']} again: {payload}")
            verdict.looked["keys sent again"] += 1

    await asyncio.gather(*(some(once[start::8]) for start in range(8)))


def _ended(books: Books, row: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    """Whether what a key asked for was refused, as its answer says, and was undone."""
    undone = _UNDONE.get(row["mutation"], ())
    state = books.redemptions[row["object"]["id"]].state if undone else ""
    return state in undone and [error["code"] for error in payload["errors"]] in _NO


_NO = (["PARTNER_REJECTED"], ["PARTNER_UNAVAILABLE"])
_UNDONE = {
    "holdRedemption": ("RELEASED",),
    "confirmRedemption": ("RELEASED",),
    "redeemOffer": ("RELEASED",),
    "cancelRedemption": ("COMMITTED", "FULFILLED", "LATE_CONFIRMED"),
}
_NAMES = ("redemption", "quote", "donation", "earning")

# -- the gateway's books against the partners' ----------------------------------------------------


def _partners_agree(verdict: Verdict, books: Books) -> None:
    """One live booking per redemption that stands, none for one that does not, none of nobody."""
    for redemption, row in books.redemptions.items():
        theirs = [one["state"] for one in books.bookings.get(redemption, ())]
        wanted = [BOOKED[row.state]] if row.state in BOOKED else []
        if not wanted:
            theirs = [state for state in theirs if state != "REJECTED"]
        verdict.looked["redemptions against partners"] += 1
        verdict.require(theirs == wanted, f"{redemption} is {row.state}, its partner has {theirs}")
    for redemption in books.bookings.keys() - books.redemptions.keys():
        verdict.violations.append(f"{redemption} is booked at its partner and unknown here")
    for op_key, state in books.partner_holds:
        verdict.require(state != "HELD", f"{op_key} is still held at its partner")
        verdict.looked["partner holds"] += 1


def _owed_once(verdict: Verdict, books: Books) -> None:
    """Points burn once; each foreign leg is owed once, with its fee; cancelled ones net to 0."""
    burnt = Counter(
        (row.redemption_id, row.leg_no) for row in books.point_holds if row.state == "POSTED"
    )
    for row in books.point_holds:
        verdict.require(row.state != "HELD", f"{row.redemption_id}: points are still held")
    for redemption, row in books.redemptions.items():
        legs = books.legs[redemption]
        once = row.state in BOOKED
        for leg in legs:
            verdict.looked["legs"] += 1
            times = burnt[redemption, leg.leg_no]
            verdict.require(times == once, f"{redemption} leg {leg.leg_no}: burnt {times} times")
        foreign = [leg for leg in legs if not leg.own]
        wanted = Counter(
            {"REDEMPTION": len(foreign), "FEE": sum(leg.fee_fen > 0 for leg in foreign)}
        )
        if not once:
            wanted = Counter()
        elif row.state == "CANCELLED":
            wanted["REVERSAL"] = wanted.total()
        found = books.obligations.get(redemption, [])
        kinds = Counter(one.type for one in found)
        verdict.require(kinds == +wanted, f"{redemption} is {row.state} and owes {dict(kinds)}")
        net: Counter[str] = Counter()
        for one in found:
            net[one.payee] += one.amount_fen
            net[one.payer] -= one.amount_fen
        due = (
            sum(leg.settlement_fen for leg in foreign) if wanted and row.state != "CANCELLED" else 0
        )
        verdict.require(
            net[row.merchant_id] == due, f"{redemption}: {row.merchant_id} gets {dict(net)}"
        )
        if row.state == "CANCELLED":
            verdict.require(
                not any(net.values()), f"{redemption} is cancelled and {dict(net)} is owed"
            )


async def _balances(
    verdict: Verdict,
    fleet: Fleet,
    books: Books,
    answers: Sequence[Mapping[str, Any]],
    opening: Wallets,
) -> None:
    """Points from the acknowledged answers and the partners' bookings alone, without the ledger."""
    expected, legs = Counter(opening), {}
    once = {row["object"]["id"]: row for row in answers if row["object"]}
    for row in answers:
        if row["object"] and "legs" in row["object"]:
            legs[row["object"]["id"]] = (row["who"], row["object"]["legs"])
    for row in once.values():
        if row["mutation"] == "donatePoints":
            expected[row["who"], row["input"]["programme"]] -= row["object"]["points"]
        elif row["mutation"] == "recordEarnEvent":
            expected[row["input"]["member"], "P-LL"] += row["object"]["points"]
    for redemption, bookings in books.bookings.items():
        if [one["state"] for one in bookings] not in (["CONFIRMED"], ["FULFILLED"]):
            continue
        verdict.require(
            redemption in legs, f"{redemption} is booked, and its member was never told of it"
        )
        who, paid = legs.get(redemption, ("", []))
        for leg in paid:
            expected[who, leg["programme"]["id"]] -= leg["points"]
    found = await wallets(fleet)
    for wallet, points_ in found.items():
        verdict.looked["wallets"] += 1
        verdict.require(
            points_ == expected[wallet], f"{wallet} has {points_}, it should be {expected[wallet]}"
        )


# -- reading --------------------------------------------------------------------------------------


async def _read(fleet: Fleet) -> Books:
    async with fleet.database.reading() as tx:

        async def rows(query: str) -> Sequence[Any]:
            return (await tx.execute(sa.text(query))).all()

        redemptions = await rows("SELECT id, state, member_id, merchant_id FROM redemptions")
        legs = await rows("SELECT * FROM redemption_legs")
        owed = await rows(
            "SELECT cause_id, type, payer, payee, amount_fen FROM settlement_obligations"
        )
        held = await rows("SELECT redemption_id, leg_no, state FROM points_holds")
        jobs = await rows("SELECT name, state FROM jobs")
        events = await rows("SELECT object_id, seq FROM events")
    bookings: dict[str, list[Any]] = defaultdict(list)
    holds = []
    for merchant in MERCHANTS:
        for row in _partner(fleet, merchant, "SELECT gateway_ref, state FROM bookings"):
            bookings[row["gateway_ref"]].append(row)
        holds += [
            (row["op_key"], row["state"])
            for row in _partner(fleet, merchant, "SELECT op_key, state FROM holds")
        ]
    return Books(
        redemptions={row.id: row for row in redemptions},
        legs=_by(legs, "redemption_id"),
        bookings=bookings,
        partner_holds=holds,
        obligations=_by(owed, "cause_id"),
        point_holds=held,
        jobs=jobs,
        events=_by(events, "object_id"),
    )


def _by(rows: Sequence[Any], name: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        found[getattr(row, name)].append(row)
    return found


def _partner(fleet: Fleet, merchant: str, query: str) -> list[Any]:
    """What a partner's own file says."""
    path = fleet.made.sandbox / "state" / f"{merchant}.db"
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as db:
        db.row_factory = sqlite3.Row
        return db.execute(query).fetchall()
