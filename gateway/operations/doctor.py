"""`gateway doctor`: looks at what an operator would, changes nothing, says what to do next."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db, invariants, jobs, migrations
from gateway.api.schema import ours
from gateway.audit import service as audit
from gateway.db import Clock, Database, system_now
from gateway.errors import GatewayError
from gateway.events import service as events
from gateway.oauth import service as oauth
from gateway.oauth.keys import Vault
from gateway.operations import checks
from gateway.operations.checks import Finding
from gateway.operations.figures import SEALS_COUNTED
from gateway.ports import Partner
from gateway.redemption import event_rows, queue
from gateway.redemption import figures as redemptions
from gateway.runtime import connect, read_connections
from gateway.settings import Settings
from gateway.settlement import service as settlement
from gateway.settlement.model import WindowState
from gateway.subgraphs import service as subgraphs
from gateway.subgraphs.composing import Verdict, put_together
from gateway.subgraphs.model import Submitted
from gateway.telemetry import hide

PATIENCE = timedelta(minutes=10)  # A saga or a hold may be late by this.
DATABASE_SECONDS = 10.0
PARTNER_SECONDS = 20.0
_OF_THE_DATABASE = (
    "schema",
    "clock",
    "signing key",
    "in doubt",
    "redemptions",
    "jobs",
    "seal",
    "worker",
    "webhooks",
    "settlement window",
    "graph",
    "invariants",
)

Progress = Callable[[str], object]


async def examine(
    settings: Settings,
    *,
    partners: bool = False,
    books: bool = True,
    progress: Progress = lambda what: None,
) -> AsyncGenerator[Finding, None]:
    """Every finding, in the order a person would look.

    Args:
        partners: Ask every partner's system, too.
        books: Check the invariants of the books, too; that reads everything.
        progress: Told what is looked at next.
    """
    for finding in checks.settings(settings):
        yield finding
    yield _disk(settings)
    database = Database(settings.url)
    try:
        vault, finding = await _vault(settings, database)
        yield finding
        yield checks.secret_file("partners file", _mode(settings.partners_path))
        progress("database")
        looked = _of_the_database(database, settings, vault, books, progress)
        async with aclosing(looked) as found:  # Who listens may leave at any finding.
            async for finding in found:
                yield finding
    finally:
        await database.close()
    if partners:
        async with aclosing(_partners(settings, progress)) as found:
            async for finding in found:
                yield finding


def _disk(settings: Settings) -> Finding:
    place = settings.home.absolute()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    return checks.disk(usage.free, usage.total)


async def _vault(settings: Settings, database: Database) -> tuple[Vault | None, Finding]:
    """The vault key, opened but never made."""
    path = settings.vault_key_path
    if _mode(path) is None:
        return None, checks.no_vault_key(sealed=await _sealed(database))
    finding = checks.secret_file("vault key", _mode(path))
    if finding.verdict is not checks.Verdict.OK:
        return None, finding
    try:
        return Vault.open(path), finding
    except (OSError, ValueError) as error:
        why = str(error) if isinstance(error, ValueError) else type(error).__name__
        return None, checks.secret_file("vault key", _mode(path), why=why)


async def _sealed(database: Database) -> bool | None:
    """Whether the database has sealed keys; None if it does not tell."""
    if database.file is not None and _mode(database.file) is None:
        return False
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            if await migrations.current(database) is None:
                return False
            async with database.reading() as tx:
                return await oauth.has_sealed_keys(tx)
    except (sa.exc.SQLAlchemyError, OSError, TimeoutError):
        return None


def _mode(path: Path) -> int | None:
    return path.stat().st_mode & 0o777 if path.exists() else None


async def _of_the_database(
    database: Database,
    settings: Settings,
    vault: Vault | None,
    books: bool,
    progress: Progress,
) -> AsyncGenerator[Finding, None]:
    try:
        if database.file is not None and _mode(database.file) is None:
            raise FileNotFoundError  # To connect would make an empty one.
        async with asyncio.timeout(DATABASE_SECONDS), database.reading() as tx:
            found = [checks.durability(await db.durability(tx))]
            at = await migrations.current(database)
    except (sa.exc.SQLAlchemyError, OSError, TimeoutError) as error:
        yield checks.fail(
            "database",
            f"不可达:{_reason(error)}",
            f"does not answer: {_reason(error)}",
            "检查 GATEWAY_DATABASE_URL、网络与数据库进程",
            "look at GATEWAY_DATABASE_URL, the network and the database's process",
        )
        for name in _OF_THE_DATABASE:
            yield checks.skip(name)
        return
    found.append(checks.schema(at, migrations.newest(), migrations.superseded()))
    for finding in found:
        yield finding
    if found[-1].verdict is checks.Verdict.FAIL:
        for name in _OF_THE_DATABASE[1:]:
            yield checks.skip(name)
        return
    progress("redemptions, jobs, seal")
    async with database.reading() as tx:
        for finding in await _state(tx, settings, vault):
            yield finding
    if books:
        async with aclosing(_books(database, progress)) as broken:
            async for finding in broken:
                yield finding


async def _state(tx: AsyncConnection, settings: Settings, vault: Vault | None) -> list[Finding]:
    """What the rows say, in one reading transaction."""
    clock = Clock()
    await clock.refresh(tx)
    at, now = system_now(), clock.now()
    offset = timedelta(seconds=round((now - at) / timedelta(seconds=1)))
    found = checks.clock(await db.clock_difference(tx), offset, settings)
    since = await oauth.signing_since(tx)
    if vault is not None:
        opens = since is not None and await oauth.opens_signing_key(tx, vault)
        found.append(checks.signing_key(at - since if since else None, opens=opens))
    doubts = (await queue.doubt_ages(tx, now=now)).values()
    count, ages = sum(each.count for each in doubts), [_short(each.oldest) for each in doubts]
    found.append(checks.doubts(count, max(ages, default=timedelta()), settings))
    found += checks.stuck(await redemptions.stuck(tx, now=now, system_now=at, patience=PATIENCE))
    unread = await queue.events_depth(tx, now=now)
    aside = await event_rows.set_aside(tx, since=now - event_rows.REMEMBERED)
    found += checks.inbox(unread.waiting, _short(unread.oldest), aside.count, aside.named)
    depths = await jobs.job_depths(tx, system_now=at)
    dead = {name: each.dead for name, each in depths.items() if each.dead}
    late = {name: _short(each.oldest) for name, each in depths.items()}
    found += checks.jobs(dead, late)
    head, waiting, oldest = await audit.state(tx, limit=SEALS_COUNTED)
    found.append(checks.seal(head, waiting, _short(at - oldest) if oldest else timedelta()))
    left = await queue.left(tx, now=now, system_now=at), await jobs.left(tx, system_now=at)
    unsealed = (waiting, at - oldest) if oldest else (0, timedelta())
    found.append(checks.worker(left, unsealed, at, settings))
    found.append(checks.webhooks(await events.trouble(tx), at))
    found.append(checks.window(await _overdue(tx, now)))
    found.append(await _graph(tx))
    return found


async def _graph(tx: AsyncConnection) -> Finding:
    """Composed as a gateway of this version would: its own schema may be another by now."""
    live = await subgraphs.live(tx)
    members = await subgraphs.members_of(tx, live.number)
    given = [Submitted(each.merchant_id, each.url, each.sdl) for each in members]
    made = put_together(ours(), given) if given else None
    errors = made.errors if isinstance(made, Verdict) else ()
    told = [f"{', '.join(each.subgraphs)} {each.code}" for each in errors]
    return checks.graph(live.number, len(members), told)


async def _overdue(tx: AsyncConnection, now: datetime) -> timedelta | None:
    for window in await settlement.windows(tx):
        if window.state is WindowState.OPEN and window.cuts_at < now:
            return _short(now - window.cuts_at)
    return None


async def _books(database: Database, progress: Progress) -> AsyncGenerator[Finding, None]:
    """The invariants, room by room; each that does not hold is a line."""
    held = 0
    for room, check in invariants.rooms().items():
        progress(f"invariants of {room}")
        async with database.reading(one_state=True) as tx:
            results = await check(tx, await invariants.business_now(tx))
        for result in results:
            held += result.ok
            if not result.ok:
                yield checks.fail(
                    f"invariant {result.id}",
                    f"不成立:{result.detail} (本应:{result.title})",
                    f"is broken: {result.detail} (what should hold: {result.title})",
                    "停止结算,保留现场,查 docs/operations.md",
                    "stop settling, keep everything as it is, see docs/operations.md",
                )
    yield checks.ok("invariants", f"{held} 条成立", f"{held} hold")


async def _partners(settings: Settings, progress: Progress) -> AsyncGenerator[Finding, None]:
    """Ask every partner for the first page of its offers: token, network and words at once."""
    try:
        loaded, clients = connect(read_connections(settings), settings, Clock())
    except ValueError as error:
        told = hide(str(error))
        step = "更正合作方文件", "correct the partners file"
        yield checks.fail("partners file", told, told, *step)
        return
    try:
        progress(f"{len(loaded)} partners")
        asked = [_ask(merchant, partner) for merchant, partner in loaded.items()]
        for finding in await asyncio.gather(*asked):
            yield finding
    finally:
        for client in clients.values():
            await client.aclose()


async def _ask(merchant: str, partner: Partner) -> Finding:
    try:
        async with asyncio.timeout(PARTNER_SECONDS):
            await partner.list_offers(None)
    except GatewayError as error:
        return checks.partner(merchant, error.code)
    except Exception as error:  # An adapter's bug is a finding, too.
        return checks.partner(merchant, type(error).__name__)
    return checks.partner(merchant, None)


def _reason(error: BaseException) -> str:
    """An error's kind, and its cause's: never its text, which may hold an address's password."""
    cause = getattr(error, "orig", None) or error
    return type(cause).__name__


def _short(age: timedelta) -> timedelta:
    return timedelta(seconds=age // timedelta(seconds=1))
