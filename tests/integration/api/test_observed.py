"""Health with its reasons, metrics without persons, rates before reading."""

import re
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from gateway import measured
from gateway.errors import OutcomeUnknown, PartnerUnavailable
from gateway.operations import figures, health
from gateway.operations.health import Health
from gateway.ports import Partner
from gateway.telemetry import metrics, work
from tests.integration.conftest import Coalition
from tests.support.gateway import Gateway, running

ME = "{ me { wallets { available } } }"


@asynccontextmanager
async def gateway_with(coalition: Coalition, home: Path, **settings: Any):
    made = running(
        coalition.database, home, clock=coalition.clock, partners=coalition.partners, **settings
    )
    async with made as gateway:
        yield gateway


async def _metrics(gateway: Gateway, **headers: str) -> str:
    answer = await gateway.http.get(
        f"{gateway.base}/metrics",
        headers={name.replace("_", "-"): v for name, v in headers.items()},
    )
    return answer.text if answer.status_code == 200 else f"{answer.status_code}"


def _value(text: str, metric: str) -> float:
    found = re.search(rf"^{re.escape(metric)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@contextmanager
def counted(*labels: str) -> Iterator[list[float]]:
    """By how much a GraphQL count rises inside."""
    counter = metrics.GRAPHQL.labels(*labels)._value
    before, rise = counter.get(), [0.0]
    yield rise
    rise[0] = counter.get() - before


async def test_ready_says_what_was_looked_at(gateway: Gateway) -> None:
    answer = await gateway.http.get(f"{gateway.base}/readyz")
    checks = {"database": "ok", "schema": "ok", "keys": "ok", "running": "ok"}
    assert answer.json() == {"status": "ok", "checks": checks}
    alive = await gateway.http.get(f"{gateway.base}/livez")
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})


async def test_stopping_makes_it_unready_and_it_still_answers(gateway: Gateway) -> None:
    gateway.app.state.health.stop()
    answer = await gateway.http.get(f"{gateway.base}/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["running"] == "stopping"
    assert (await gateway.anonymous().ask("{ __typename }")).status == 200


async def test_ready_names_what_is_wrong(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE", 30.0)  # Nothing here is about time.
    database = gateway.runtime.database
    readiness = Health(database, signing=True, working=True, kept=0)
    work._beat_at = None
    assert {each.name: each.why for each in await readiness.checks()}["worker"] == "not begun"
    work.beat()
    assert all(each.ok for each in await readiness.checks())
    work._beat_at -= 3600
    assert {each.name: each.why for each in await readiness.checks()}["worker"] == "no pulse"
    work.beat()
    async with database.transaction() as tx:
        await tx.execute(sa.text("DELETE FROM oauth_signing_keys"))
    assert {each.name: each.why for each in await readiness.checks()}["keys"] == "no signing key"
    async with database.transaction() as tx:
        await tx.execute(sa.text("UPDATE alembic_version SET version_num = 'later'"))
    assert {each.name: each.why for each in await readiness.checks()}["schema"] == "ok"
    async with database.transaction() as tx:
        await tx.execute(sa.text("DELETE FROM alembic_version"))
    found = await readiness.checks()
    assert [(each.name, each.ok) for each in found[:2]] == [("database", True), ("schema", False)]
    closed = Health(None, signing=True, working=False)
    assert not (await closed.checks())[0].ok


async def test_metrics_tell_of_requests_by_root_field_role_and_code(gateway: Gateway) -> None:
    member = await gateway.member("mbr_demo_01")
    with (
        counted("me", "member", "OK") as good,
        counted("me", "anonymous", "UNAUTHENTICATED") as bad,
    ):
        await member.data(ME)
        await gateway.anonymous().ask(ME)
    assert (good, bad) == ([1], [1])
    with counted("holdRedemption", "member", "NOT_FOUND") as refused:
        await member.ask(
            'mutation { holdRedemption(input: {quote: "quo_0", idempotencyKey: "k"})'
            " { wrong: errors { code: message } } }"
        )
    assert refused == [1]
    with counted("unread", "member", "MALFORMED_REQUEST") as malformed:
        await member.ask("{ nothing_like_this_2f7c }")
    assert malformed == [1]
    text = await _metrics(gateway)
    assert _value(text, 'gateway_http_requests_total{route="/graphql",status="200"}') > 0
    assert "nothing_like_this_2f7c" not in text
    assert "mbr_" not in text
    assert "gateway_graphql_cost_bucket" in text


async def test_who_may_read_the_metrics(coalition: Coalition, tmp_path: Path) -> None:
    secret = "open-sesame-open-sesame"
    async with gateway_with(coalition, tmp_path) as gateway:
        assert "gateway_redemptions" in await _metrics(gateway)
        assert await _metrics(gateway, x_forwarded_for="203.0.113.9") == "401"
    async with gateway_with(coalition, tmp_path, metrics_token=secret) as gateway:
        assert await _metrics(gateway) == "401"
        assert await _metrics(gateway, authorization="Bearer open-sesame") == "401"
        assert "process_cpu" in await _metrics(gateway, authorization=f"Bearer {secret}")


async def test_figures_of_the_database(coalition: Coalition) -> None:
    coalition.partners["M05"].script["hold"] = ["lost_before"]
    await coalition.held("mbr_demo_01", "XH-01", ("P-LL", None))
    coalition.clock.forward(seconds=90)
    async with coalition.database.reading() as tx:
        await figures.read(tx, now=coalition.clock.now(), at=coalition.clock.now())
    text = metrics.text().decode()
    assert _value(text, 'gateway_redemptions{state="IN_DOUBT"}') == 1
    assert _value(text, 'gateway_in_doubt_oldest_seconds{merchant="M05"}') == 90
    assert _value(text, 'gateway_in_doubt_p99_seconds{merchant="M05"}') == 90
    assert _value(text, "gateway_seal_lag") > 0
    await coalition.work(seconds=0)
    async with coalition.database.reading() as tx:
        await figures.read(tx, now=coalition.clock.now(), at=coalition.clock.now())
    text = metrics.text().decode()
    assert _value(text, 'gateway_redemptions{state="IN_DOUBT"}') == 0
    assert _value(text, 'gateway_in_doubt_oldest_seconds{merchant="M05"}') == 0


async def test_partner_verbs_are_counted_by_how_they_ended(coalition: Coalition) -> None:
    partner = coalition.partners["M05"]
    watched = measured.watched({"M05": cast("Partner", partner)})["M05"]
    assert watched.code == "M05"
    partner.script["status"] = ["ok", "not_sent", "lost_before"]
    await watched.status("red_1:hold:1")
    with pytest.raises(PartnerUnavailable):
        await watched.status("red_1:hold:1")
    with pytest.raises(OutcomeUnknown):
        await watched.status("red_1:hold:1")
    text = metrics.text().decode()
    for outcome in ("ok", "unavailable", "unknown"):
        labels = f'merchant="M05",outcome="{outcome}",verb="status"'
        assert _value(text, f"gateway_partner_calls_total{{{labels}}}") > 0


async def test_too_many_requests_are_answered_before_they_are_read(
    coalition: Coalition, tmp_path: Path
) -> None:
    async with gateway_with(coalition, tmp_path, member_requests_per_second=0.2) as gateway:
        member, other = await gateway.member("mbr_demo_01"), await gateway.member("mbr_demo_02")
        assert [(await member.ask(ME)).status for _ in range(3)] == [200, 200, 429]
        answer = await member.ask("this is not GraphQL")
        assert (answer.status, answer.codes) == (429, ["RATE_LIMITED"])
        assert int(answer.headers["retry-after"]) >= 1
        assert (await other.ask(ME)).status == 200
    async with gateway_with(coalition, tmp_path, address_requests_per_second=0.1) as gateway:
        anybody = gateway.anonymous()
        assert [(await anybody.ask("{ __typename }")).status for _ in range(2)] == [200, 429]


async def test_guessing_codes_at_a_till_ends_soon(coalition: Coalition, tmp_path: Path) -> None:
    async with gateway_with(coalition, tmp_path, voucher_misses_per_minute=3) as gateway:
        till = await gateway.merchant("M05")
        tries = " ".join(
            f'n{n}: verifyVoucher(input: {{code: "0000000{n}", idempotencyKey: "k{n}"}})'
            " { errors { code } }"
            for n in range(5)
        )
        many = await till.ask(f"mutation {{ {tries} }}")
        assert many.codes[0] == "RATE_LIMITED"
        again = await till.ask(f"mutation {{ {tries} }}")
        assert (again.status, again.codes) == (429, ["RATE_LIMITED"])
        other = await gateway.merchant("M06")
        assert (await other.refused("verifyVoucher", code="00000000"))["code"] == "NOT_FOUND"
