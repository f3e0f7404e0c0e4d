"""The checks find what they are for: a partner with one thing wrong fails the check of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from gateway.ports import Outcome
from partners import SANDBOXES
from partners.conformance import CHECKS, Status, run
from partners.simulators import books, terms, tokens
from partners.simulators.core import Shop
from partners.simulators.inventory import Inventory
from tests.support.tokens import client_for

Break = Callable[[pytest.MonkeyPatch], None]


def never_checks_keys(patch: pytest.MonkeyPatch) -> None:
    def trusting(self: tokens.Tokens, assertion: str) -> Any:
        return next(iter(self._clients.values()))

    patch.setattr(tokens.Tokens, "_by_assertion", trusting)


def never_expires_tokens(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tokens.Tokens, "expire_all", lambda self: None)


def never_looks_at_scopes(patch: pytest.MonkeyPatch) -> None:
    checked = tokens.Tokens.check
    everything = frozenset(("offers", "redeem", "statements", "notices"))

    def lax(self: tokens.Tokens, authorization: str | None, scope: str) -> frozenset[str]:
        checked(self, authorization, "")
        return everything

    patch.setattr(tokens.Tokens, "check", lax)


def bears_no_skew(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tokens, "SKEW_SECONDS", 0)


def forgets_keys(patch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Shop, verb: str, op_key: str, body: Any, effect: Any) -> Any:
        self.store.db.execute("DELETE FROM ops")
        self.store.db.execute("UPDATE holds SET op_key = op_key || '.' || ref")
        self.store.db.execute("UPDATE bookings SET op_key = op_key || '.' || ref")
        return once(self, verb, op_key, body, effect)

    once = Shop._once
    patch.setattr(Shop, "_once", forgetful)


def takes_any_body(patch: pytest.MonkeyPatch) -> None:
    def careless(self: Shop, verb: str, op_key: str, body: Any, effect: Any) -> Any:
        return once(self, verb, op_key, {}, effect)

    once = Shop._once
    patch.setattr(Shop, "_once", careless)


def never_frees(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Inventory, "give_back", lambda self, held: None)


def never_lets_holds_go(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Shop, "_sweep", lambda self, now: None)


def never_cancels(patch: pytest.MonkeyPatch) -> None:
    def lying(self: Shop, quoted: Any, booking: Any, op_key: str) -> Any:
        fact = terms.fact_document(self.fact_of(booking, op_key))
        return {**fact, "outcome": Outcome.CANCELLED.value}

    patch.setattr(Shop, "_cancel", lying)


def never_looks_at_deadlines(patch: pytest.MonkeyPatch) -> None:
    def patient(self: Shop, *, deadline: Any, **asked: Any) -> Any:
        return confirm(self, deadline=deadline + timedelta(days=1), **asked)

    confirm = Shop._confirm
    patch.setattr(Shop, "_confirm", patient)


def forgets_fences(patch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Shop, verb: str, op_key: str, body: Any, effect: Any) -> Any:
        self.store.db.execute("DELETE FROM fences")
        return once(self, verb, op_key, body, effect)

    once = Shop._once
    patch.setattr(Shop, "_once", forgetful)


def oversells(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Inventory, "_full", lambda self, offer, slot, quantity: None)
    patch.setattr(Inventory, "_take_places", lambda self, offer, slot, quantity: [])


def keeps_the_old_price(patch: pytest.MonkeyPatch) -> None:
    from partners.simulators import core

    class Lowered(core.Declined):
        def __init__(self, code: str, **context: Any) -> None:
            super().__init__(code, **dict.fromkeys(context, 1))

    patch.setattr(core, "Declined", Lowered)


def loses_vouchers(patch: pytest.MonkeyPatch) -> None:
    status = Shop._status

    def empty(self: Shop, op_key: str) -> Any:
        fact = status(self, op_key)
        object.__setattr__(fact, "artefacts", {})
        return fact

    patch.setattr(Shop, "_status", empty)


def forgets_what_it_holds(patch: pytest.MonkeyPatch) -> None:
    from partners.simulators import listing

    listed = listing.operations

    def short(shop: Shop, *given: Any) -> Any:
        page = listed(shop, *given)
        object.__setattr__(page, "operations", page.operations[:-1])
        return page

    patch.setattr(listing, "operations", short)


def changes_its_mind(patch: pytest.MonkeyPatch) -> None:
    stated = books.statement
    seen: list[int] = []

    def moody(*given: Any, **named: Any) -> Any:
        statement = stated(*given, **named)
        seen.append(1)
        object.__setattr__(statement, "version", len(seen))
        return statement

    patch.setattr(books, "statement", moody)


def missums(patch: pytest.MonkeyPatch) -> None:
    stated = books.statement

    def wrong(*given: Any, **named: Any) -> Any:
        statement = stated(*given, **named)
        object.__setattr__(statement, "trailer_sum_fen", statement.trailer_sum_fen + 1)
        return statement

    patch.setattr(books, "statement", wrong)


def rounds_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(books, "bps_half_up", lambda amount, bps: -(-amount * bps // 10_000) + 1)


def never_reverses(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(books, "cancelled", lambda store, merchant, booking, now: None)


def never_restates(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(books, "_version", lambda store, day, lines: 1)


def takes_notices_twice(patch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Shop, verb: str, op_key: str, body: Any, effect: Any) -> Any:
        self.store.db.execute("DELETE FROM ops WHERE verb = 'notice'")
        return once(self, verb, op_key, body, effect)

    once = Shop._once
    patch.setattr(Shop, "_once", forgetful)


@pytest.mark.parametrize(
    ("wrong", "found_by"),
    [
        (never_checks_keys, "CF-A02"),
        (never_expires_tokens, "CF-A03"),
        (never_looks_at_scopes, "CF-A04"),
        (bears_no_skew, "CF-A05"),
        (forgets_keys, "CF-C02"),
        (takes_any_body, "CF-C03"),
        (never_frees, "CF-C04"),
        (never_lets_holds_go, "CF-C04"),
        (never_cancels, "CF-C05"),
        (never_lets_holds_go, "CF-C07"),
        (never_looks_at_deadlines, "CF-C08"),
        (forgets_fences, "CF-C09"),
        (oversells, "CF-C11"),
        (keeps_the_old_price, "CF-C12"),
        (oversells, "CF-C13"),
        (loses_vouchers, "CF-C14"),
        (forgets_what_it_holds, "CF-C15"),
        (changes_its_mind, "CF-F02"),
        (missums, "CF-F03"),
        (rounds_up, "CF-F04"),
        (never_reverses, "CF-F05"),
        (missums, "CF-F06"),
        (never_restates, "CF-F07"),
        (takes_notices_twice, "CF-F08"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_partner_with_one_thing_wrong_fails_its_check(
    monkeypatch: pytest.MonkeyPatch, wrong: Break, found_by: str
) -> None:
    (check,) = [check for check in CHECKS if check.id == found_by]
    wrong(monkeypatch)

    async with SANDBOXES["graphql"](client_for) as box:
        result = await run(check, box)

    assert result.status is Status.FAIL, f"{result.status} {result.reason}"


async def test_what_nobody_can_make_a_partner_do_is_skipped_with_the_reason() -> None:
    async with SANDBOXES["graphql"](client_for) as box:
        box.control, box.travels = None, False
        results = {check.id: await run(check, box) for check in CHECKS}

    assert {result.status for result in results.values()} == {Status.PASS, Status.SKIP}
    skipped = {name for name, result in results.items() if result.status is Status.SKIP}
    assert skipped >= {"CF-A03", "CF-C04", "CF-C07", "CF-C10", "CF-C12", "CF-F04", "CF-F07"}
    assert {"CF-A01", "CF-C01", "CF-C02", "CF-C09", "CF-C11", "CF-F08"}.isdisjoint(skipped)
    assert all(results[name].reason for name in skipped)
