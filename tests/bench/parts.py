"""Single parts: token check, ledger, netting, matching; each against the least there is to do."""

import base64
import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from gateway.ledger import service as ledger
from gateway.ledger.model import Journal, Kind, Part, credit, debit, member_account, points_book
from gateway.oauth import jose
from gateway.oauth.scopes import Role
from gateway.reconciliation.matching import match
from gateway.reconciliation.model import REDEMPTION, Row, Rules
from gateway.settlement import service as settlement
from gateway.settlement import store
from gateway.settlement.model import Obligation, State, Type
from gateway.values import business_day
from tests.bench import place, script
from tests.bench.race import Figure, Times, race
from tests.support.gateway import running

HOLDS = 100
ROWS = 20_000
PAIRS = tuple(
    (f"M{payer:02}", f"M{payee:02}")
    for payer in range(1, 16)
    for payee in range(1, 16)
    if payer != payee
)


async def run(path: Path, *, rounds: int) -> list[Figure]:
    few = max(3, rounds // 3)
    return [
        *await tokens(place.url(path), path.parent, rounds=rounds),
        await _ledger(path, rounds=rounds),
        await _netting(path, rounds=few),
        await _matching(rounds=few),
    ]


# -- token check --------------------------------------------------------------------------------


async def tokens(address: str, home: Path, *, rounds: int) -> list[Figure]:
    """A token seen for the first time, and one seen before."""
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(place.opened(address))
        clock = place.coalition(database).clock
        gateway = await stack.enter_async_context(running(database, home, clock=clock, partners={}))
        token = await gateway.token(Role.MEMBER, member=place.MEMBER)
        guard = gateway.runtime.oauth.guard
        await guard.authenticate(f"Bearer {token}")
        kid = jose.header(token)["kid"]
        public = await gateway.runtime.oauth.ring.public(now=gateway.runtime.oauth.now())
        (jwk,) = [jwk for jwk in public if jwk["kid"] == kid]
        key = _public_key(jwk)
        seen = {hashlib.sha256(token.encode()).digest(): object()}

        async def first() -> None:
            guard._seen.clear()
            await guard.authenticate(f"Bearer {token}")

        async def verified() -> None:
            _verify(token, key)

        async def again() -> None:
            await guard.authenticate(f"Bearer {token}")

        async def looked_up() -> None:
            assert seen[hashlib.sha256(token.encode()).digest()]

        new = Figure(
            "token check, first time",
            "one ES256 verification by cryptography and the claims read as JSON",
        )
        old = Figure("token check, again", "SHA-256 of the token and one dict lookup")
        return [
            await race(new, ours=first, floor=verified, rounds=rounds, times=50),
            await race(old, ours=again, floor=looked_up, rounds=rounds, times=200),
        ]


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _public_key(jwk: dict[str, str]) -> ec.EllipticCurvePublicKey:
    x, y = (int.from_bytes(_bytes(jwk[name])) for name in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def _verify(token: str, key: ec.EllipticCurvePublicKey) -> None:
    signed, _, signature = token.rpartition(".")
    raw = _bytes(signature)
    pair = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    key.verify(pair, signed.encode(), ec.ECDSA(hashes.SHA256()))
    assert json.loads(_bytes(signed.partition(".")[2]))["sub"]


# -- ledger -------------------------------------------------------------------------------------


def journals(run: int) -> Iterator[Journal]:
    """As a hold of 10 own points posts it."""
    book, now = points_book("M04"), place.NOW
    for number in range(HOLDS):
        held = (
            debit(book, member_account(place.MEMBER, Part.AVAIL), 10),
            credit(book, member_account(place.MEMBER, Part.HELD), 10),
        )
        yield Journal(Kind.HOLD, f"bench:{run}:{number}", held, now, "bench", f"red_{run}_{number}")


async def _ledger(path: Path, *, rounds: int) -> Figure:
    """100 holds posted together, in one transaction."""
    figure = Figure(
        f"ledger: {HOLDS} holds in one transaction", "the same statements and values by aiosqlite"
    )
    async with (
        place.opened(place.url(place.copy(path, "ours"))) as database,
        script.raw_driver(place.copy(path, "floor")) as driver,
    ):
        count = itertools.count()

        async def ours() -> None:
            async with database.transaction() as tx:
                await ledger.post(tx, list(journals(next(count))), now=place.NOW)

        async def floor() -> None:
            await script.replay(driver, said)

        for number in range((rounds + 1) * 5):
            kept = number >= 5
            with script.recorded(database) as said:
                await (figure.ours if kept else Times()).add(ours, 1)
            await (figure.floor if kept else Times()).add(floor, 1)
        figure.note = f"{said.statements} statements."
    return figure


# -- netting ------------------------------------------------------------------------------------


async def _netting(path: Path, *, rounds: int) -> Figure:
    """Net and hash a window of 20,000 obligations, rolled back each time."""
    figure = Figure(
        f"netting: {ROWS:,} obligations", "the same statements by aiosqlite, every row read"
    )
    mine = place.copy(path, "netting")
    async with place.opened(place.url(mine)) as database, script.raw_driver(mine) as driver:
        async with database.transaction() as tx:
            window = await settlement.close_window(tx, now=place.NOW)
            rows = [(obligation(number, window.id), None) for number in range(ROWS)]
            await store.insert_obligations(tx, rows)
        said = script.Script()

        async def ours() -> None:
            nonlocal said
            with script.recorded(database) as said:
                async with database.engine.connect() as tx:
                    await settlement.net_window(tx, window_id=window.id, now=place.NOW)
                    await tx.rollback()

        async def floor() -> None:
            await script.replay(driver, said)

        await ours()
        await race(figure, ours=ours, floor=floor, rounds=rounds, times=3)
        figure.note = f"{said.statements} statements, {len(PAIRS)} pairs."
    return figure


def obligation(number: int, window_id: str) -> Obligation:
    payer, payee = PAIRS[number % len(PAIRS)]
    return Obligation(
        id=f"obl_{number:026}",
        type=Type.REDEMPTION,
        cause_id=f"red_{number}",
        epoch=1,
        leg_no=1,
        issuer=payer,
        redeemer=payee,
        payer=payer,
        payee=payee,
        amount_fen=100 + number % 9_973,
        state=State.IN_WINDOW,
        accrued_at=place.NOW,
        cleared_at=place.NOW,
        business_date=business_day(place.NOW),
        window_id=window_id,
    )


# -- matching -----------------------------------------------------------------------------------


async def _matching(*, rounds: int) -> Figure:
    """Two sides of 20,000 rows, one in a thousand of which differs."""
    day = business_day(place.NOW)
    ours = [
        Row(
            id=f"obl_{number:06}",
            merchant=f"M{number % 15 + 1:02}",
            ref=f"red_{number:06}",
            partner_ref=f"b{number:06}",
            type=REDEMPTION,
            issuer=f"M{(number + 1) % 15 + 1:02}",
            amount_fen=100 + number % 9_973,
            business_date=day - timedelta(days=number % 2),
        )
        for number in range(ROWS)
    ]
    theirs = [
        replace(row, id=f"line_{number:06}", amount_fen=row.amount_fen + (number % 1_000 == 0))
        for number, row in enumerate(reversed(ours))
    ]
    rules = Rules()

    async def matched() -> None:
        found = match(ours, theirs, day=day, rules=rules)
        assert len(found.matches) == ROWS - ROWS // 1_000

    async def joined() -> None:
        known = {(row.ref, row.issuer, row.merchant, row.type): row for row in ours}
        pairs = 0
        for row in theirs:
            mine = known.pop((row.ref, row.issuer, row.merchant, row.type))
            pairs += mine.amount_fen == row.amount_fen
        assert pairs == ROWS - ROWS // 1_000

    figure = Figure(
        f"matching: {ROWS:,} × {ROWS:,} rows", "a dict of one side and one look at the other"
    )
    return await race(figure, ours=matched, floor=joined, rounds=rounds, times=2)
