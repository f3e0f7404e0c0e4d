"""A database that is gone costs a line a minute and no traceback, however many loops meet it."""

import sqlite3

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from gateway import outage
from gateway.db import Unreachable
from gateway.outage import Outage


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(outage.time, "monotonic", lambda: now[0])
    return now


def test_many_failures_are_told_once_a_minute_and_so_is_the_end(clock):
    here = Outage()
    with capture_logs() as told:
        for number in range(130):
            assert here.failed(f"loop {number % 4}", Unreachable("nobody listens"))
            clock[0] += 1
        here.succeeded()
        here.succeeded()
    cannot, can = "the database cannot be used", "the database can be used again"
    assert [line["event"] for line in told] == [cannot] * 3 + [can]
    assert [line["seconds"] for line in told] == [0, 60, 120, 130]
    assert not any("exc_info" in line for line in told)
    assert told[0]["kind"] == "Unreachable"
    assert told[-1]["failures"] == 130


def test_the_next_outage_is_told_of_at_once(clock):
    here = Outage()
    with capture_logs() as told:
        for _ in range(2):
            here.failed("a loop", Unreachable("nobody listens"))
            here.succeeded()
    assert [line["log_level"] for line in told] == ["warning", "info"] * 2


def test_a_file_that_is_locked_is_an_outage_and_a_fault_is_not():
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
    assert Outage().failed("a loop", sa.exc.OperationalError("x", {}, busy))
    here, fault = Outage(), ValueError("a bug")
    with capture_logs() as told:
        assert not here.failed("a loop", fault, merchant="M03")
        here.succeeded()  # Nothing was told of as an outage, so nothing ends.
    assert told == [
        {"event": "a loop", "log_level": "error", "exc_info": fault, "merchant": "M03"},
    ]
