"""`gateway events` and `gateway dev` against a database and an endpoint of their own."""

import asyncio
import contextlib
import json
import shutil
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer.testing

from gateway import db
from gateway.cli import app
from gateway.db import Database
from gateway.demo import forwarding
from gateway.events import service as events
from gateway.events.service import Change
from gateway.oauth.keys import Vault
from gateway.settings import Settings
from tests.support.receiver import Receiver, receiving

NOW = datetime.now(UTC)


@pytest.fixture
def home(sqlite_template: Path, tmp_path: Path) -> Path:
    shutil.copyfile(sqlite_template, tmp_path / "gateway.db")
    return tmp_path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An endpoint in a thread of its own: a command takes this one."""
    with contextlib.ExitStack() as stack:
        ready, over, made = threading.Event(), asyncio.Event(), []

        async def serve() -> None:
            async with receiving() as one:
                made.append((one, asyncio.get_running_loop()))
                ready.set()
                await over.wait()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        stack.callback(thread.join)
        assert ready.wait(20)
        stack.callback(lambda: made[0][1].call_soon_threadsafe(over.set))
        yield made[0][0]


def run(home: Path, *words: str, **environ: str) -> typer.testing.Result:
    env = {"GATEWAY_HOME": str(home), **environ}
    return typer.testing.CliRunner().invoke(app, words, env=env, catch_exceptions=False)


def change(home: Path, object_id: str = "agr_1") -> None:
    """Something happens that concerns M04."""

    async def record() -> None:
        database = Database(f"sqlite+aiosqlite:///{home / 'gateway.db'}")
        async with database.transaction() as tx:
            told = Change("agreement.proposed", object_id, {"M04"}, {"version": 1})
            await events.record(tx, told, now=NOW)
        await database.close()

    asyncio.run(record())


def register(home: Path, receiver: Receiver) -> None:
    async def add() -> None:
        database = Database(f"sqlite+aiosqlite:///{home / 'gateway.db'}")
        async with database.transaction() as tx:
            _, secret = await events.register(
                tx,
                merchant_id="M04",
                url=receiver.url,
                types=["agreement.*"],
                vault=Vault.open(home / "vault.key"),
                sandbox=True,
                now=NOW,
            )
        receiver.secrets.append(secret)
        await database.close()

    asyncio.run(add())


def test_events_are_listed_newest_first(home):
    for name in ("agr_1", "agr_1", "agr_2"):
        change(home, name)
    rows = json.loads(run(home, "events", "list", "--since", "1h", "--json").output)
    assert [row["event"] for row in rows] == ["evt_agr_2_1", "evt_agr_1_2", "evt_agr_1_1"]
    assert rows[0]["type"] == "agreement.proposed"
    assert json.loads(run(home, "events", "list", "--failed", "--json").output) == []
    assert run(home, "events", "list", "--since", "soon").exit_code == 2


def test_an_event_is_sent_by_hand_and_queued_again(home, receiver):
    change(home)
    register(home, receiver)
    sent = run(home, "events", "resend", "evt_agr_1_1", "--to", receiver.url)
    assert sent.exit_code == 0, sent.output
    assert [event["id"] for event in receiver.taken] == ["evt_agr_1_1"]
    receiver.answers = lambda event, attempt: 500
    assert run(home, "events", "resend", "evt_agr_1_1", "--to", receiver.url).exit_code == 3
    assert run(home, "events", "resend", "evt_agr_1_1").output == "1 will be sent again\n"
    assert run(home, "events", "resend", "evt_none_1").exit_code == 2


def broken(home: Path, *statements: str, **values: object) -> None:
    async def execute() -> None:
        database = Database(f"sqlite+aiosqlite:///{home / 'gateway.db'}")
        async with database.transaction() as tx:
            for statement in statements:
                names = {name: at for name, at in values.items() if f":{name}" in statement}
                bound = [sa.bindparam(name, type_=db.Instant) for name in names]
                await tx.execute(sa.text(statement).bindparams(*bound), names)
        await database.close()

    asyncio.run(execute())


def test_a_failing_event_is_sent_at_once_and_the_rest_is_explained(home, receiver):
    change(home)
    register(home, receiver)
    change(home)
    resend = "events", "resend", "evt_agr_1_1"
    assert run(home, *resend).output == "1 will be sent again\n"  # Its first delivery.
    failing = "UPDATE webhook_deliveries SET attempts = 5, status = 500, due_at = :due"
    broken(home, f"{failing}, sent_at = :due", due=datetime.now(UTC) + timedelta(hours=3))
    assert run(home, *resend).output == "1 will be sent again\n"
    assert run(home, *resend).output == (
        "0 will be sent again\nevt_agr_1_1 to M04: it was due already; `gateway worker` sends it\n"
    )
    later = run(home, "events", "resend", "evt_agr_1_2").output
    assert later == (
        "1 will be sent again\nevt_agr_1_2 to M04: earlier ones of its object go first (1);"
        " resend those, too\n"
    )
    broken(
        home,
        "UPDATE webhook_deliveries SET leased_until = :until",
        until=datetime.now(UTC) + timedelta(seconds=30),
    )
    assert run(home, *resend).output.endswith("evt_agr_1_1 to M04: it is being sent\n")
    broken(home, "UPDATE webhook_endpoints SET state = 'PAUSED'")
    assert "its endpoint is PAUSED" in run(home, *resend).output
    broken(home, "DELETE FROM webhook_deliveries", "DELETE FROM webhook_endpoints")
    told = "0 will be sent again\nevt_agr_1_1: nobody it concerns has an endpoint\n"
    assert run(home, *resend).output == told


def test_failing_deliveries_are_listed_by_their_last_try(home, receiver):
    """The event may be old, in business time above all: it fails now."""
    change(home)
    register(home, receiver)
    run(home, "events", "resend", "evt_agr_1_1")
    now = datetime.now(UTC)
    broken(
        home,
        "UPDATE webhook_deliveries SET attempts = 5, status = 500, sent_at = :tried",
        "INSERT INTO clock_offset (one, offset_us) VALUES (1, 172800000000)",
        tried=now - timedelta(minutes=10),
    )
    for since, count in (("1h", 1), ("5m", 0)):
        asked = "events", "list", "--failed", "--since", since, "--json"
        assert len(json.loads(run(home, *asked).output)) == count, since


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_a_list_of_nothing_is_a_usage_error(home, limit):
    assert run(home, "events", "list", "--limit", limit).exit_code == 2


def test_outside_the_sandbox_events_are_sent_to_their_endpoints_only(home, receiver):
    change(home)
    live = {"GATEWAY_MODE": "live"}
    assert run(home, "events", "resend", "evt_agr_1_1", "--to", receiver.url, **live).exit_code == 2
    assert run(home, "dev", "--forward", receiver.url, **live).exit_code == 2
    assert receiver.calls == []


def test_events_are_forwarded_while_they_happen(home, receiver):
    change(home)
    register(home, receiver)
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if len(told) == 1:  # It follows now: only what happens from here on is sent.
            threading.Thread(target=change, args=[home, "agr_9"]).start()

    settings = Settings(home=home)
    asyncio.run(forwarding.forward(settings, receiver.url, merchant=None, count=1, tell=tell))
    assert told[0].startswith("signed with whsec_")
    assert told[1].startswith("✓ 204")
    assert told[1].endswith("M04  agreement.proposed  evt_agr_9_1")
    assert [event["object"] for event in receiver.taken] == ["agr_9"]
