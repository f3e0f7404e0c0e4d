"""The end of a run: everything has ended, agrees with the merchants, and nothing told is lost."""

from typing import TYPE_CHECKING

from gateway import invariants
from gateway.redemption.model import State
from tests.simulation.people import People
from tests.simulation.world import Down, Process, World

if TYPE_CHECKING:
    from tests.simulation.partner import Booking, Hold, Merchant

BURNED = {"COMMITTED", "LATE_CONFIRMED", "FULFILLED", "CANCELLING", "CANCELLED"}
UNCOVERED = {"FENCE_VIOLATED", "LATE_CONFIRM_UNCOVERED"}
"""Findings of a booking that stands, though the points are back: finance has it."""
SOLD = {"COMMITTED", "LATE_CONFIRMED", "FULFILLED", "NEEDS_REVIEW"}


async def all_invariants(world: World, process: Process) -> None:
    """Every invariant of the product, in one reading transaction.

    While faults last the sandbox's clock may have jumped by days, and no worker has looked since:
    what must be so after a time (R8) is judged at the end.
    """
    in_time = not world.faults.on
    async with process.database.reading() as tx:
        for result in await invariants.check(tx):
            if not result.ok and (in_time or result.id != "R8"):
                world.wrong(f"{result.id} {result.title}: {result.detail}")


class Verdict:
    """Judges the end of a run against what the merchants know and what people were told."""

    def __init__(self, world: World, people: People) -> None:
        self.world = world
        self.people = people
        self.findings: dict[str, set[str]] = {}
        for ref, code in world.check.rows("SELECT redemption_id, code FROM saga_findings"):
            self.findings.setdefault(ref, set()).add(code)
            world.counts[f"finding {code}"] += 1

    def judge(self) -> None:
        """All that can be judged without asking a process."""
        rows = self.world.check.rows(
            "SELECT id, merchant_id, state, doubt, reason FROM redemptions ORDER BY id"
        )
        ends = {}
        for ref, merchant, state, doubt, reason in rows:
            ends[ref] = state
            self.world.counts[f"end {state}"] += 1
            told = f"{ref} ends {state} {doubt or ''} {reason or ''}"
            self._one(ref, self.world.merchants[merchant], state, told)
        for legs, count in self.world.check.rows(
            "SELECT n, count(*) FROM (SELECT count(*) AS n FROM redemption_legs"
            " GROUP BY redemption_id) GROUP BY n"
        ):
            self.world.counts[f"legs {legs}"] += count
        for kind, count in self.world.check.rows(
            "SELECT kind, count(*) FROM ledger_journals GROUP BY kind"
        ):
            self.world.counts[f"journal {kind}"] += count
        self._nobody_else(ends)
        self._nothing_held(ends)
        self._nothing_lost(ends)
        self._all_applied()

    def _one(self, ref: str, merchant: "Merchant", state: str, told: str) -> None:
        """One redemption against its merchant's truth."""
        world, truth = self.world, merchant.truth
        booking = truth.booking_of(f"{ref}:confirm:1")
        said = booking.state if booking else "nothing"
        lied = truth.lies.get(ref, set())
        found = self.findings.get(ref, set())
        ok = {
            "COMMITTED": said == "CONFIRMED",
            "LATE_CONFIRMED": said == "CONFIRMED",
            "FULFILLED": said == "FULFILLED" or ref in self.people.told.tilled,
            "CANCELLED": said == "CANCELLED",
            "RELEASED": said in ("nothing", "CANCELLED") or bool(found & UNCOVERED),
            "NEEDS_REVIEW": bool(lied & {"contradict", "change_mind", "confirm_late"}),
        }.get(state, False)
        if not ok:
            lies = f", which lied: {sorted(lied)}" if lied else ""
            world.wrong(f"{told}; {merchant.code} says {said}{lies}; findings {sorted(found)}")
        if "FENCE_VIOLATED" in found and not lied:
            world.wrong(f"{told} with FENCE_VIOLATED, and nobody lied")

    def _nobody_else(self, ends: dict[str, str]) -> None:
        """The other way round: what the merchants have sold and hold is ours, and once."""
        rows = self.world.check.rows("SELECT id, merchant_id, booking_ref FROM redemptions")
        ours = {ref: (merchant, booking) for ref, merchant, booking in rows}
        for merchant in self.world.merchants.values():
            live: set[str] = set()
            for booking in merchant.truth.bookings.values():
                known, ref = ours.get(booking.redemption, ("", None))
                told = f"{merchant.code} has {booking.ref} {booking.state}"
                if known != merchant.code:
                    self.world.wrong(f"{told}, which nobody here knows")
                elif booking.state != "CANCELLED":
                    self._sold(told, booking, ends[booking.redemption], ref)
                    if booking.redemption in live:
                        self.world.wrong(f"{told}, the second of its redemption")
                    live.add(booking.redemption)
            for hold in merchant.truth.holds.values():
                self._let_go(merchant, hold, ends, ours)

    def _sold(self, told: str, booking: "Booking", state: str, ref: str | None) -> None:
        """A booking that stands, against its redemption here."""
        if state in SOLD:
            if ref != booking.ref and state != "NEEDS_REVIEW":
                self.world.wrong(f"{told}, and it is {state} as {ref}")
        elif not self.findings.get(booking.redemption, set()) & UNCOVERED:
            self.world.wrong(f"{told}, and it is {state}")

    def _let_go(
        self,
        merchant: "Merchant",
        hold: "Hold",
        ends: dict[str, str],
        ours: dict[str, tuple[str, str | None]],
    ) -> None:
        """A hold at the end: used, fenced, over by its own limit, or a person has it."""
        state, told = ends.get(hold.redemption), f"{merchant.code} has {hold.ref} {hold.state}"
        if state is None or ours[hold.redemption][0] != merchant.code:
            self.world.wrong(f"{told}, which nobody here knows")
        elif hold.state == "HELD" and merchant.now() < hold.expires_at and state != "NEEDS_REVIEW":
            self.world.wrong(f"{told} until {hold.expires_at}, and its redemption is {state}")

    def _nothing_held(self, ends: dict[str, str]) -> None:
        for ref, state in self.world.check.rows(
            "SELECT redemption_id, state FROM points_holds WHERE state = 'HELD'"
        ):
            if ends.get(ref) != "NEEDS_REVIEW":
                self.world.wrong(f"a hold of {ref} is left {state}, which ends {ends.get(ref)}")
        for cause, state in self.world.check.rows(
            "SELECT cause_id, state FROM settlement_reservations WHERE state = 'RESERVED'"
        ):
            if ends.get(cause) != "NEEDS_REVIEW":
                self.world.wrong(f"a reservation of {cause} is left {state}")

    def _nothing_lost(self, ends: dict[str, str]) -> None:
        world, told = self.world, self.people.told
        for ref, states in told.redemptions.items():
            end = ends.get(ref)
            if end is None:
                world.wrong(f"{ref} was told of, and is not there")
            elif end == "NEEDS_REVIEW":
                continue
            elif set(states) & BURNED and end not in BURNED:
                world.wrong(f"{ref} was told {states}, and ends {end}")
            elif "CANCELLED" in states and end != "CANCELLED":
                world.wrong(f"{ref} was told CANCELLED, and ends {end}")
        kept = {row[0] for row in world.check.rows("SELECT id FROM donations")}
        for one in sorted(told.donations - kept):
            world.wrong(f"donation {one} is lost")
        earned = {row[0] for row in world.check.rows("SELECT earning_id FROM points_earnings")}
        for one in sorted(told.earnings - earned):
            world.wrong(f"earning {one} is lost")
        events = set(world.check.rows("SELECT merchant_id, event_id FROM partner_events"))
        for merchant, event in sorted(world.check.acknowledged_events - events):
            world.wrong(f"webhook {event} of {merchant} is lost")

    def _all_applied(self) -> None:
        for (one,) in self.world.check.rows(
            "SELECT event_id FROM partner_events WHERE applied_at IS NULL"
        ):
            self.world.wrong(f"webhook {one} was never applied")
        for name, error in self.world.check.rows(
            "SELECT name, last_error FROM jobs WHERE state = 'DUE' OR state = 'DEAD'"
        ):
            if name != "compensate":
                self.world.wrong(f"job {name} is not done: {error}")

        for scope, key in self.world.check.rows(
            "SELECT scope, key FROM idempotency_keys WHERE object_id IS NULL"
        ):
            self.world.wrong(f"key {key} of {scope} is claimed for ever")

    async def replays(self) -> None:
        """Asked again under the same key, everybody gets the same object."""
        world = self.world
        for ask, ref in self.people.told.replays:
            try:
                made = await world.gateway().call(ask)
            except Down as down:
                world.wrong(f"no answer in calm weather: {down}")
                continue
            found = made[0] if isinstance(made, tuple) else made
            if found.id != ref:
                world.wrong(f"asked again, {ref} became {found.id}")


def settled(state: str) -> bool:
    """Whether a redemption needs nothing more."""
    return state in (
        *(State.COMMITTED, State.FULFILLED, State.RELEASED, State.CANCELLED),
        *(State.LATE_CONFIRMED, State.NEEDS_REVIEW),
    )
