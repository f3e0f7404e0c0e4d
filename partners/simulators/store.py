"""One SQLite file per merchant. A transaction is committed before its answer is given.

Written without waiting for the disk: it survives a kill of the process, not a power cut.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS offers (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL, seq INTEGER NOT NULL UNIQUE,
    deleted INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stock (
    offer_id TEXT NOT NULL, store TEXT NOT NULL, left_ INTEGER NOT NULL CHECK (left_ >= 0),
    PRIMARY KEY (offer_id, store));
CREATE TABLE IF NOT EXISTS slots (
    pool TEXT NOT NULL, slot TEXT NOT NULL, left_ INTEGER NOT NULL CHECK (left_ >= 0),
    PRIMARY KEY (pool, slot));
CREATE TABLE IF NOT EXISTS quotes (
    id TEXT PRIMARY KEY, member_ref TEXT NOT NULL, offer_id TEXT NOT NULL, slot TEXT,
    quantity INTEGER NOT NULL, bill_fen INTEGER, list_fen INTEGER NOT NULL,
    terms_hash TEXT NOT NULL,
    expires_at TEXT NOT NULL, cancel_until TEXT);
CREATE TABLE IF NOT EXISTS ops (
    op_key TEXT PRIMARY KEY, verb TEXT NOT NULL, fingerprint TEXT NOT NULL, answer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS op_times (op_key TEXT NOT NULL UNIQUE, at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS event_times (event_id TEXT PRIMARY KEY, at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fences (op_key TEXT PRIMARY KEY, at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS holds (
    ref TEXT PRIMARY KEY, op_key TEXT NOT NULL UNIQUE, quote_id TEXT NOT NULL, claims TEXT NOT NULL,
    pool TEXT, slot TEXT, units TEXT NOT NULL, store TEXT, quantity INTEGER NOT NULL,
    expires_at TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('HELD', 'RELEASED', 'FENCED', 'CONFIRMED')));
CREATE INDEX IF NOT EXISTS holds_slot ON holds (pool, slot);
CREATE INDEX IF NOT EXISTS holds_due ON holds (expires_at) WHERE state = 'HELD';
CREATE TABLE IF NOT EXISTS bookings (
    ref TEXT PRIMARY KEY, hold_ref TEXT NOT NULL UNIQUE, op_key TEXT NOT NULL UNIQUE,
    gateway_ref TEXT NOT NULL, code TEXT NOT NULL UNIQUE, member_ref TEXT NOT NULL,
    offer_id TEXT NOT NULL, slot TEXT, units TEXT NOT NULL, store TEXT, quantity INTEGER NOT NULL,
    list_fen INTEGER NOT NULL, claims TEXT NOT NULL, cancel_until TEXT, confirmed_at TEXT NOT NULL,
    version INTEGER NOT NULL, final_fare_fen INTEGER, reason TEXT,
    state TEXT NOT NULL CHECK (state IN
        ('PENDING', 'REJECTED', 'CONFIRMED', 'FULFILLED', 'NO_SHOW', 'CANCELLED')));
CREATE INDEX IF NOT EXISTS bookings_gateway_ref ON bookings (gateway_ref);
CREATE TABLE IF NOT EXISTS cancel_quotes (
    id TEXT PRIMARY KEY, booking_ref TEXT NOT NULL, expires_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lines (
    id INTEGER PRIMARY KEY, day TEXT NOT NULL, booking_ref TEXT NOT NULL, type TEXT NOT NULL,
    issuer TEXT NOT NULL, leg INTEGER NOT NULL, face_fen INTEGER NOT NULL,
    amount_fen INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS lines_day ON lines (day);
CREATE TABLE IF NOT EXISTS statements (
    day TEXT NOT NULL, version INTEGER NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (day, version));
CREATE TABLE IF NOT EXISTS notices (
    receipt_ref TEXT PRIMARY KEY, leg_id TEXT NOT NULL, body TEXT NOT NULL,
    received_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, event_id TEXT NOT NULL, body TEXT NOT NULL, due REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, done TEXT);
CREATE INDEX IF NOT EXISTS events_due ON events (due) WHERE done IS NULL;
CREATE TABLE IF NOT EXISTS faults (
    id INTEGER PRIMARY KEY, origin TEXT UNIQUE, member_ref TEXT NOT NULL, offer_id TEXT NOT NULL,
    fault TEXT NOT NULL, verb TEXT, value TEXT, left_ INTEGER);
CREATE TABLE IF NOT EXISTS tokens (
    hash TEXT PRIMARY KEY, client_id TEXT NOT NULL, scope TEXT NOT NULL, expires REAL NOT NULL);
CREATE TABLE IF NOT EXISTS assertions (
    client_id TEXT NOT NULL, jti TEXT NOT NULL, expires REAL NOT NULL,
    PRIMARY KEY (client_id, jti));
"""


class Store:
    """A connection with explicit transactions; rows are read by name."""

    def __init__(self, path: Path | str) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = OFF")
        self.db.execute("PRAGMA busy_timeout = 5000")
        self.db.executescript(f"BEGIN; {SCHEMA} COMMIT;")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything or nothing; inside another transaction, part of that one."""
        if self.db.in_transaction:
            yield self.db
            return
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def row(self, sql: str, *values: object) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self.db.execute(sql, values).fetchone()
        return found

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        return self.db.execute(sql, values).fetchall()

    def next(self, name: str) -> int:
        """The next number of a counter, from 1."""
        row = self.row(
            "INSERT INTO counters VALUES (?, 1)"
            " ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value",
            name,
        )
        assert row is not None
        return int(row["value"])

    def close(self) -> None:
        self.db.close()
