"""One purchase as its member's app makes it, and what must hold of it when all is over."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from gateway.demo.clients import Unexpected
from tests.support.box import Box

SEEN = """id state reason finalFareFen
  legs { points returnedPoints own settlementFen feeFen programme { id } }"""
OWED = """query($id: ID!) { obligations(filter: {cause: $id}, first: 50) { edges { node {
  type payer payee amountFen } } } }"""
BOOKED = {  # state at the gateway: the states of the booking at the partner
    "COMMITTED": ["CONFIRMED"],
    "FULFILLED": ["FULFILLED"],
    "CANCELLED": ["CANCELLED"],
    "RELEASED": [],
}


@dataclass(frozen=True)
class Buy:
    """What is bought, by whom, with what."""

    merchant: str
    offer: str
    member: str
    legs: tuple[dict[str, Any], ...] = field(hash=False)
    slotted: bool = False

    def __str__(self) -> str:
        return self.offer


@dataclass
class Story:
    """A purchase under way. Its app repeats, with the same key, what is not answered."""

    box: Box
    buy: Buy
    before: dict[str, int] = field(default_factory=dict)
    id: str = ""

    @classmethod
    async def begin(cls, box: Box, buy: Buy) -> "Story":
        """Look into the wallet, before anything is bought."""
        story = cls(box, buy)
        story.before = await story.wallets()
        return story

    async def ask(self, mutation: str, **given: Any) -> dict[str, Any]:
        """One request with one key, sent again until there is an answer.

        Returns:
            The redemption, with `replayed`.
        """
        app = self.box.member(self.buy.member)

        async def send() -> dict[str, Any] | None:
            try:
                return await app.did(mutation, "redemption { id state }", **given)
            except httpx2.TransportError:
                return None

        answer = await self.box.until(send, lambda answer: answer is not None, mutation)
        assert answer
        found: dict[str, Any] = answer["redemption"]
        assert self.id in ("", found["id"]), "one request makes one redemption"
        self.id = found["id"]
        return found | {"replayed": answer["replayed"]}

    async def unanswered(self, mutation: str, **given: Any) -> None:
        """One request, sent once, that gets no answer."""
        with pytest.raises((httpx2.TransportError, Unexpected)):
            await self.box.member(self.buy.member).did(mutation, "redemption { id }", **given)

    async def prepared(self, step: str) -> tuple[str, dict[str, Any]]:
        """Everything before a step.

        Returns:
            The mutation that makes the step, and its input.
        """
        app = self.box.member(self.buy.member)
        asked: dict[str, Any] = {"offer": self.buy.offer, "legs": list(self.buy.legs)}
        if self.buy.slotted:
            asked["slot"] = await self._slot()
        if step == "redeem":
            return "redeemOffer", asked
        quote = (await app.did("requestQuote", "quote { id }", **asked))["quote"]["id"]
        if step == "hold":
            return "holdRedemption", {"quote": quote}
        assert (await self.ask("holdRedemption", quote=quote))["state"] == "HELD"
        if step == "confirm":
            return "confirmRedemption", {"redemption": self.id}
        if step == "release":
            return "releaseRedemption", {"redemption": self.id}
        await self.ask("confirmRedemption", redemption=self.id)
        await self.reaches("COMMITTED")
        offered = await app.did("requestCancellation", "cancelQuote { id }", redemption=self.id)
        return "cancelRedemption", {
            "redemption": self.id,
            "cancelQuote": offered["cancelQuote"]["id"],
        }

    async def _slot(self) -> str:
        """The last slot that can be seen: it is still to come."""
        text = "query($id: ID!) { offer(id: $id) { live { slots { id left } } } }"
        found = await self.box.member(self.buy.member).query(text, id=self.buy.offer)
        slot: str = found["offer"]["live"]["slots"][-1]["id"]
        return slot

    async def ends(self, step: str) -> None:
        """Wait for the end of a step; what was only held is then bought."""
        if step == "hold":
            await self.reaches("HELD")
            await self.ask("confirmRedemption", redemption=self.id)
        after = {"cancel": "CANCELLED", "release": "RELEASED"}
        await self.reaches(after.get(step, "COMMITTED"))

    async def reaches(self, *states: str) -> dict[str, Any]:
        """Wait until the redemption is in one of these states."""
        return await self.box.until(
            self.seen, lambda row: row["state"] in states, f"{self.id} {states}"
        )

    async def seen(self) -> dict[str, Any]:
        """The redemption as its member sees it."""
        text = f"query($id: ID!) {{ redemption(id: $id) {{ {SEEN} }} }}"
        found = await self.box.member(self.buy.member).query(text, id=self.id)
        row: dict[str, Any] = found["redemption"]
        return row

    async def wallets(self) -> dict[str, int]:
        """Available points by programme; nothing may be held."""
        text = "{ me { wallets { programme { id } available held } } }"
        rows = (await self.box.member(self.buy.member).query(text))["me"]["wallets"]
        assert not [row for row in rows if row["held"]], rows
        return {row["programme"]["id"]: row["available"] for row in rows}

    async def settled(self, state: str) -> None:
        """Both sides agree, with one effect; points, obligations and invariants are right."""
        spent = await self.agreed(state)
        assert await self.wallets() == {
            programme: points - spent[programme] for programme, points in self.before.items()
        }
        assert await self.box.broken_invariants() == []

    async def agreed(self, state: str) -> Counter[str]:
        """Both sides agree about this purchase, and it owes what it should.

        Returns:
            The points it has cost, by programme.
        """
        row = await self.seen()
        assert row["state"] == state
        await self._agrees_with_partner(state)
        await self._owes(row)
        return Counter(
            {
                leg["programme"]["id"]: leg["points"] - leg["returnedPoints"]
                for leg in row["legs"]
                if state != "RELEASED"
            }
        )

    async def _agrees_with_partner(self, state: str) -> None:
        theirs = await self.box.control.state(self.buy.merchant)
        bookings = [one for one in theirs["bookings"] if one["gateway_ref"] == self.id]
        assert [one["state"] for one in bookings] == BOOKED[state], bookings
        holds = [one for one in theirs["holds"] if one["op_key"].startswith(f"{self.id}:")]
        assert not [one for one in holds if one["state"] == "HELD"], holds
        if state != "RELEASED":
            assert [one["ref"] for one in holds] == [bookings[0]["hold_ref"]], holds

    async def _owes(self, row: dict[str, Any]) -> None:
        """Exactly one obligation and one fee per foreign leg; after a cancellation, nothing."""
        finance = self.box.staff("usr_fin_maker")
        edges = (await finance.query(OWED, id=self.id))["obligations"]["edges"]
        found = [edge["node"] for edge in edges]
        net: Counter[str] = Counter()
        for one in found:
            net[one["payer"]] -= one["amountFen"]
            net[one["payee"]] += one["amountFen"]
        foreign = [leg for leg in row["legs"] if not leg["own"]]
        fees = [leg for leg in foreign if leg["feeFen"]]
        kinds = Counter(one["type"] for one in found)
        redeemed = sum(leg["settlementFen"] for leg in foreign)
        once = Counter({"REDEMPTION": len(foreign), "FEE": len(fees)})
        if row["state"] == "RELEASED":
            assert found == []
        elif row["state"] == "CANCELLED":
            assert kinds == once + Counter({"REVERSAL": len(foreign) + len(fees)}), found
            assert not any(net.values()), found
        elif row["finalFareFen"] is None:
            assert kinds == once, found
            assert net[self.buy.merchant] == redeemed
        else:
            assert kinds == once + Counter({"REVERSAL": len(foreign) + len(fees)}), found
            assert net[self.buy.merchant] == await self._billed() < redeemed

    async def _billed(self) -> int:
        """What the partner itself puts on its bill for the booking."""
        theirs = await self.box.control.state(self.buy.merchant)
        refs = [one["ref"] for one in theirs["bookings"] if one["gateway_ref"] == self.id]
        lines = [one for one in theirs["lines"] if one["booking_ref"] in refs]
        return sum(one["amount_fen"] for one in lines)
