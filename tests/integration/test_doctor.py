"""The doctor's lines: well on a good day, and each one changes when its thing is broken."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from rich.console import Console

from gateway import db
from gateway.audit import service as audit
from gateway.audit.model import id_floor
from gateway.db import Database
from gateway.jobs import Left
from gateway.oauth.server import OAuth
from gateway.operations import checks, doctor, telling
from gateway.operations.checks import MIB, Finding, Verdict
from gateway.settings import Settings
from gateway.values import new_id

LIVE = replace(
    Settings(),
    mode="live",
    issuer="https://gateway.example",
    vault_key_file="/run/vault.key",
    database_url="postgresql+asyncpg://gateway:pass@db.example/gateway?ssl=verify-full",
)


@pytest.fixture
async def settings(seeded_url: str, tmp_path: Path) -> Settings:
    """A coalition on its first day, with keys and sealed books."""
    made = replace(Settings(), home=tmp_path, database_url=seeded_url)
    database = Database(seeded_url)
    await OAuth(database, made).start()
    async with database.transaction() as tx:
        while await audit.seal(tx, limit=10_000):
            pass
    await database.close()
    return made


async def _found(settings: Settings, **asked: Any) -> dict[str, Finding]:
    return {finding.check: finding async for finding in doctor.examine(settings, **asked)}


async def _changed(settings: Settings, *statements: str, **values: Any) -> dict[str, Finding]:
    """What is found after SQL has broken something."""
    database = Database(settings.url)
    async with database.transaction() as tx:
        for statement in statements:
            names = {name: value for name, value in values.items() if f":{name}" in statement}
            bound = [sa.bindparam(name, type_=db.Instant) for name in names]
            await tx.execute(sa.text(statement).bindparams(*bound), names)
    await database.close()
    return await _found(settings, books="ledger_balances" in statements[0])


async def test_on_a_good_day_all_is_well(settings: Settings) -> None:
    found = await _found(settings)
    assert {each.check: each for each in found.values() if each.verdict is not Verdict.OK} == {}
    assert len(found) == 24
    assert found["database"].en.startswith("answers: ")
    assert all(each.zh and each.en for each in found.values())


@pytest.mark.parametrize(
    ("check", "verdict", "statement"),
    [
        ("schema", "fail", "DELETE FROM alembic_version"),
        ("business clock", "ok", "INSERT INTO clock_offset (one, offset_us) VALUES (1, 60000000)"),
        ("signing key", "warn", "UPDATE oauth_signing_keys SET created_at = :long_ago"),
        (
            "signing key",
            "fail",
            "UPDATE oauth_signing_keys SET sealed = 'AAAAAAAAAAAAAAAAAAAA'",
        ),
        ("signing key", "fail", "DELETE FROM oauth_signing_keys"),
        (
            "jobs dead",
            "fail",
            "INSERT INTO jobs (job_id, name, key, payload, state, attempts, due_at)"
            " VALUES ('j1', 'notice', 'k1', '{}', 'DEAD', 12, :long_ago)",
        ),
        (
            "jobs late",
            "warn",
            "INSERT INTO jobs (job_id, name, key, payload, state, attempts, due_at)"
            " VALUES ('j1', 'notice', 'k1', '{}', 'DUE', 0, :long_ago)",
        ),
        (
            "webhooks late",
            "fail",
            "INSERT INTO partner_events (merchant_id, event_id, body, received_at)"
            " VALUES ('M05', 'e1', '{}', :long_ago)",
        ),
        (
            "webhooks set aside",
            "warn",
            "INSERT INTO partner_events (merchant_id, event_id, body, received_at, applied_at,"
            " outcome) VALUES ('M05', 'e1', '{}', :long_ago, CURRENT_TIMESTAMP, 'set aside: x')",
        ),
        (
            "settlement window",
            "fail",
            "INSERT INTO settlement_windows (window_id, state, open_slot, opened_at, cuts_at)"
            " VALUES ('win_1', 'OPEN', 1, :long_ago, :long_ago)",
        ),
        (
            "seal",
            "fail",
            "INSERT INTO ledger_journals (journal_id, op_key, kind, cause_id, actor,"
            " effective_at, recorded_at) SELECT 'jnl_zzzzzz', 'op', kind, 'c', 'a', :long_ago,"
            " :long_ago FROM ledger_journals LIMIT 1",
        ),
    ],
)
async def test_what_is_broken_changes_its_line(
    settings: Settings, check: str, verdict: str, statement: str
) -> None:
    found = await _changed(settings, statement, long_ago=datetime.now(UTC) - timedelta(days=200))
    assert found[check].verdict == verdict, found[check]
    if verdict != "ok":
        assert found[check].next_zh
        assert found[check].next_en


REDEMPTION = (
    "INSERT INTO redemptions (id, member_id, quote_id, merchant_id, offer_id, quantity, list_fen,"
    " cash_fen, kind, category, pricing, state, epoch, doubt, fact_version, points_hold_until,"
    " doubt_since, due_at, polls, resends, fenced, auto_confirm, created_at, leased_until) VALUES"
    " ('red_1', 'mbr_demo_01', 'q', 'M05', 'XH-01', 1, 0, 0, 'k', 'c', 'p', '{state}', 1, {doubt},"
    " 0, :until, :doubt_since, :due, 0, 0, FALSE, FALSE, :made, :leased)"
)
REVIEW = (
    "INSERT INTO redemption_reviews (redemption_id, reason, came_from, step, opened_at, due_at)"
    " VALUES ('red_1', 'r', 'IN_DOUBT', 'confirm', :made, :decided)"
)


@pytest.mark.parametrize(
    ("check", "state", "hours", "told"),
    [
        ("in doubt", "IN_DOUBT", {"doubt_since": 0.5}, ("ok", "1 in doubt, the oldest for 0:30:0")),
        ("in doubt", "IN_DOUBT", {"doubt_since": 2}, ("warn", "1 in doubt, the oldest for 2:00:0")),
        ("in doubt", "IN_DOUBT", {"doubt_since": 25}, ("fail", "1 in doubt, the oldest for 1 day")),
        ("redemptions leased", "CONFIRMING", {"due": 1, "leased": 0.5}, ("fail", "leases ended")),
        ("redemptions leased", "CONFIRMING", {"due": 1, "leased": 0.1}, ("ok", "none")),
        ("redemptions leased", "CONFIRMING", {"due": -1, "leased": 0.5}, ("ok", "none")),
        ("redemptions leased", "RELEASED", {"due": 1, "leased": 0.5}, ("ok", "none")),
        ("redemptions held", "HELD", {"until": 0.5}, ("fail", "HELD past the limit")),
        ("redemptions held", "HELD", {"until": 0.1}, ("ok", "none")),
        ("redemptions held", "RELEASED", {"until": 9}, ("ok", "none")),
        (
            "redemptions review",
            "NEEDS_REVIEW",
            {"decided": -1},
            ("warn", "wait for a person: red_1"),
        ),
        ("redemptions overdue", "NEEDS_REVIEW", {"decided": -1}, ("ok", "none")),
        ("redemptions overdue", "NEEDS_REVIEW", {"decided": 1}, ("fail", "past the time given")),
        ("redemptions overdue", "COMMITTED", {"decided": 1}, ("ok", "none")),
    ],
)
async def test_a_redemption_that_stands_still_is_a_line(
    settings: Settings, check: str, state: str, hours: dict[str, float], told: tuple[str, str]
) -> None:
    verdict, says = told
    now = datetime.now(UTC)
    ago = {"until": 0.0, "doubt_since": 0, "due": 0, "made": 30, "leased": 0, "decided": 0} | hours
    at = {name: now - timedelta(hours=each) for name, each in ago.items()}
    doubt = "'confirm'" if state == "IN_DOUBT" else "NULL"
    written = REDEMPTION.format(state=state, doubt=doubt)
    if state == "COMMITTED":
        written = written.replace("created_at,", "committed_at, created_at,")
        written = written.replace(":made,", ":made, :made,")
    found = (await _changed(settings, written, *([REVIEW] * ("decided" in hours)), **at))[check]
    assert (found.verdict, says in found.en) == (verdict, True), found
    if verdict in ("warn", "fail"):
        assert found.next_zh
        assert found.next_en
        assert check == "in doubt" or found.en.endswith("red_1")


async def test_a_broken_book_is_named(settings: Settings) -> None:
    found = await _changed(settings, "UPDATE ledger_balances SET balance = balance + 1")
    broken = [each for name, each in found.items() if name.startswith("invariant ")]
    assert broken
    assert all(each.verdict is Verdict.FAIL for each in broken)
    for each in broken:  # What is wrong comes first, then what ought to be.
        assert each.en.startswith("is broken: ")
        assert each.zh.startswith("不成立:")
    without = await _found(settings, books=False)
    assert "invariants" not in without


JOB = (
    "INSERT INTO jobs (job_id, name, key, payload, state, attempts, due_at, leased_until)"
    " VALUES ('j1', 'notice', 'k1', '{}', 'DUE', 0, :due, :leased)"
)


@pytest.mark.parametrize(
    ("due", "leased", "verdict"),
    [(120, 90, "fail"), (30, 20, "ok"), (120, -20, "ok")],  # Seconds ago.
)
async def test_work_that_nobody_takes_is_a_worker_that_is_away(
    settings: Settings, due: int, leased: int, verdict: str
) -> None:
    now = datetime.now(UTC)
    at = {"due": now - timedelta(seconds=due), "leased": now - timedelta(seconds=leased)}
    worker = (await _changed(settings, JOB, **at))["worker"]
    assert worker.verdict == verdict, worker
    assert "work was last taken 0:" in worker.en
    if verdict == "fail":
        assert worker.en.startswith("nobody works on 1 that are due, the oldest for 0:02:0")
        assert worker.en.endswith("work was last taken 0:02:00 ago")


async def test_a_chain_that_nobody_seals_is_a_worker_that_is_away(settings: Settings) -> None:
    made = datetime.now(UTC) - timedelta(minutes=2)
    old = id_floor(new_id("jnl"), margin_ms=120_000)
    statement = (
        "INSERT INTO ledger_journals (journal_id, op_key, kind, cause_id, actor, effective_at,"
        " recorded_at) SELECT 'OLD', 'op', kind, 'c', 'a', :at, :at FROM ledger_journals LIMIT 1"
    ).replace("OLD", old)
    worker = (await _changed(settings, statement, at=made))["worker"]
    assert worker.verdict is Verdict.FAIL, worker


def test_work_is_not_left_alone_while_a_worker_holds_other_work() -> None:
    """A slow partner's lane is full: what waits behind it is no sign of a stopped worker."""
    now = datetime.now(UTC)
    waits = Left(3, timedelta(minutes=5), None)
    held = Left(0, timedelta(), now + timedelta(seconds=20))
    nothing = 0, timedelta()
    assert checks.worker([waits, held], nothing, now, Settings()).verdict is Verdict.OK
    assert checks.worker([waits], nothing, now, Settings()).verdict is Verdict.FAIL


async def test_events_that_do_not_arrive_are_a_line(settings: Settings) -> None:
    now = datetime.now(UTC)
    endpoint = (
        "INSERT INTO webhook_endpoints (id, merchant_id, url, types, state, sealed, created_at)"
        " VALUES ('{0}', '{1}', 'http://127.0.0.1:1', '[]', '{2}', 'x', :now)"
    )
    event = (
        "INSERT INTO events (number, object_id, seq, type, merchants, data, occurred_at)"
        " VALUES (9001, 'agr_1', 9001, 'agreement.proposed', 'M04', '{}', :now)"
    )
    fed = "INSERT INTO event_feed VALUES ('M04', 9001, 9001, :routed)"
    delivery = (
        "INSERT INTO webhook_deliveries"
        " (endpoint_id, number, object_id, state, attempts, due_at, status, sent_at)"
        " VALUES ('we_1', 9001, 'agr_1', 'DUE', 5, :now, 500, :now)"
    )
    at = {"now": now, "routed": now - timedelta(minutes=42)}
    first = endpoint.format("we_1", "M04", "ACTIVE")
    found = (await _changed(settings, first, event, fed, delivery, **at))["webhooks"]
    assert found.verdict is Verdict.WARN
    assert found.en.startswith("1 deliveries fail, the oldest for 0:42:0")
    gone = endpoint.format("we_2", "M05", "GONE")
    found = (await _changed(settings, gone, **at))["webhooks"]
    assert found.en.endswith("stopped by 410: M05")
    found = (await _changed(settings, "UPDATE webhook_deliveries SET state = 'DEAD'"))["webhooks"]
    assert found.verdict is Verdict.FAIL
    assert found.en.startswith("1 deliveries were given up: M04; ")
    paused = "UPDATE webhook_endpoints SET state = 'PAUSED'"  # Its merchant wants none.
    assert (await _changed(settings, paused))["webhooks"].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("hours", "told"),
    [(-10.75, "-10 h 45 min 0 s"), (10.75, "+10 h 45 min 0 s"), (-60, "-60 h 0 min 0 s")],
)
def test_an_offset_is_a_signed_duration(hours: float, told: str) -> None:
    found = checks.clock(timedelta(), timedelta(hours=hours), Settings())
    assert found[1].en == f"business time is offset by {told}"


async def test_a_database_that_is_away_skips_what_needs_it(settings: Settings) -> None:
    away = replace(settings, database_url="postgresql+asyncpg://u:canary-77@127.0.0.1:1/x")
    found = await _found(away)
    assert found["database"].verdict is Verdict.FAIL
    assert found["invariants"].verdict is Verdict.SKIP
    assert "canary-77" not in str(found)


async def test_the_vault_key_must_be_there_closed_and_the_right_one(settings: Settings) -> None:
    path = settings.vault_key_path
    path.chmod(0o644)
    assert (await _found(settings))["vault key"].verdict is Verdict.FAIL
    path.chmod(0o600)
    path.write_text("AAAA")
    assert (await _found(settings))["vault key"].verdict is Verdict.FAIL
    path.unlink()
    found = await _found(settings)
    assert found["vault key"].verdict is Verdict.FAIL
    assert not path.exists()  # The doctor makes nothing.
    OAuth(Database(settings.url), settings)  # Another key.
    assert (await _found(settings))["signing key"].verdict is Verdict.FAIL


async def test_a_partner_that_does_not_answer(settings: Settings) -> None:
    connection = {
        "merchant": "M05",
        "adapter": "cinemas",
        "base_url": "http://127.0.0.1:1",
        "token_url": "http://127.0.0.1:1/token",
        "audience": "http://127.0.0.1:1",
        "auth": {"method": "client_secret_basic", "client_id": "g", "secret": "canary-78"},
    }
    settings.partners_path.write_text(json.dumps([connection]))
    settings.partners_path.chmod(0o600)
    assert "partner M05" not in await _found(settings)
    found = await _found(settings, partners=True)
    assert found["partner M05"].verdict is Verdict.FAIL
    assert "PARTNER_UNAVAILABLE" in found["partner M05"].en
    settings.partners_path.chmod(0o640)
    settings.partners_path.write_text(json.dumps([connection | {"adapter": "canary-79"}]))
    found = await _found(settings, partners=True)
    assert found["partners file"].verdict is Verdict.FAIL
    assert "canary-78" not in str(found)


async def test_it_is_told_as_lines_and_as_json(settings: Settings) -> None:
    for as_json in (False, True):
        out, err = io.StringIO(), io.StringIO()
        settled = await telling.tell(
            settings,
            {"partners": False, "books": True},
            out=Console(file=out, width=200),
            err=Console(file=err),
            as_json=as_json,
        )
        assert settled
        if as_json:
            rows = json.loads(out.getvalue())
            assert set(rows[0]) == {"check", "verdict", "zh", "en", "next_zh", "next_en"}
        else:
            assert "✓ database: 可达" in out.getvalue()
            assert out.getvalue().endswith("24 ok\n")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"issuer": "http://gateway.example"}, "GATEWAY_ISSUER"),
        ({"failpoint": "hold:stored"}, "GATEWAY_FAILPOINT"),
        ({"log_level": "DEBUG"}, "GATEWAY_LOG_LEVEL"),
        ({"login_tries_per_minute": 1000}, "GATEWAY_LOGIN_TRIES_PER_MINUTE"),
        ({"voucher_misses_per_minute": 0.0}, "GATEWAY_VOUCHER_MISSES_PER_MINUTE"),
        ({"metrics_token": "short"}, "GATEWAY_METRICS_TOKEN"),
        ({"vault_key_file": ""}, "GATEWAY_VAULT_KEY_FILE"),
        ({"database_url": "postgresql+asyncpg://u@db.example/x"}, "GATEWAY_DATABASE_URL"),
    ],
)
def test_what_is_unsafe_in_live_mode(change: dict[str, Any], name: str) -> None:
    (good,) = checks.settings(LIVE)
    assert good.verdict is Verdict.OK, good
    (bad,) = checks.settings(replace(LIVE, **change))
    assert (bad.verdict, name in bad.en) == (Verdict.FAIL, True)
    (sandbox,) = checks.settings(replace(LIVE, mode="sandbox", **change))
    assert sandbox.verdict is Verdict.OK


@pytest.mark.parametrize(
    ("made", "verdict"),
    [
        (lambda: checks.clock(timedelta(seconds=1), timedelta(), LIVE)[0], "ok"),
        (lambda: checks.clock(timedelta(seconds=-9), timedelta(), LIVE)[0], "warn"),
        (lambda: checks.clock(timedelta(seconds=90), timedelta(), LIVE)[0], "fail"),
        (lambda: checks.clock(timedelta(), timedelta(hours=1), LIVE)[1], "fail"),
        (lambda: checks.clock(timedelta(), timedelta(), LIVE)[1], "ok"),
        (lambda: checks.doubts(2, timedelta(seconds=20), LIVE), "ok"),
        (lambda: checks.doubts(2, timedelta(hours=2), LIVE), "warn"),
        (lambda: checks.doubts(2, timedelta(days=2), LIVE), "fail"),
        (lambda: checks.stuck({"leased": ["red_1"]})[0], "fail"),
        (lambda: checks.stuck({"held": ["red_1"] * 4})[0], "fail"),
        (lambda: checks.stuck({"review": ["red_1"]})[0], "warn"),
        (lambda: checks.stuck({"overdue": ["red_1"]})[0], "fail"),
        (lambda: checks.disk(50 * MIB, 9_000 * MIB), "fail"),
        (lambda: checks.disk(500 * MIB, 9_000 * MIB), "warn"),
        (lambda: checks.disk(500 * MIB, 1_000 * MIB), "ok"),
        (lambda: checks.schema("9999", "0001", frozenset()), "warn"),
        (lambda: checks.schema(None, "0001", frozenset()), "fail"),
    ],
)
def test_what_a_figure_means(made: Callable[[], Finding], verdict: str) -> None:
    assert made().verdict == verdict


async def test_an_unsafe_database_is_seen(settings: Settings) -> None:
    database = Database(settings.url)
    if database.file:
        engine = database.engine.sync_engine
        sa.event.listen(engine, "connect", lambda made, _: made.execute("PRAGMA synchronous=0"))
    async with database.reading() as tx:
        if not database.file:
            await tx.execute(sa.text("SET synchronous_commit = off"))
        found = await db.durability(tx)
    await database.close()
    assert found.unsafe == ("synchronous" if database.file else "synchronous_commit",)
    assert checks.durability(found).verdict is Verdict.FAIL
