"""`gateway audit verify` from outside: heads that merchants kept, and the speed of it."""

import json
import os
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from joserfc.jwk import KeySet

from gateway.audit import service as audit
from gateway.audit import store
from gateway.audit.model import BadHead, BrokenChain, Fault
from gateway.db import Database
from gateway.oauth import jose
from gateway.operations import evidence as operation
from tests.support import evidence
from tests.support.evidence import KEY, NOW
from tests.support.issuers import open_books


async def head_file(database: Database, folder: Path) -> Path:
    """A head as a merchant's system stored the notice it came with."""
    await evidence.sealed(database)
    async with database.transaction() as tx:
        token = await evidence.sign_head(tx)
    path = folder / "notice.json"
    path.write_text(json.dumps({"leg_id": "ins_1", "audit_head": token}), encoding="utf-8")
    return path


def keys_file(folder: Path, key=KEY) -> Path:
    path = folder / "jwks.json"
    path.write_text(json.dumps(KeySet([key]).as_dict(private=False)), encoding="utf-8")
    return path


async def test_a_kept_head_is_compared(database: Database, tmp_path: Path) -> None:
    kept = await head_file(database, tmp_path)
    found = await operation.verify(database.url, kept=kept, jwks=keys_file(tmp_path))
    assert (found.links, found.heads) == (9, 1)
    assert (await operation.verify(database.url, kept=kept)).links == 9  # By the stored key.


async def test_a_rewritten_chain_is_caught_by_the_kept_head_alone(
    database: Database, tmp_path: Path
) -> None:
    kept = await head_file(database, tmp_path)
    async with database.transaction() as tx:
        await open_books(tx, "audit_entries", "audit_seals", "audit_heads")
        await tx.execute(sa.update(store.entries).values(actor="somebody else"))
        await tx.execute(store.heads.delete())
        await evidence.rewrite(tx)
        other = jose.new_key()
        await audit.sign_head(
            tx, sign=evidence.signer(other), issuer="http://gateway", since=NOW, now=NOW
        )
    assert (await operation.verify(database.url)).heads == 1
    with pytest.raises(BrokenChain) as found:
        await operation.verify(database.url, kept=kept, jwks=keys_file(tmp_path))
    assert found.value.fault is Fault.REWRITTEN


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not fit"),
        ("{}", "no signed head"),
        ("a.b.c", "does not fit"),
        (jose.encode({"number": 1}, KEY, typ="at+jwt"), "its type is at"),
        (jose.encode({"number": 1}, KEY, typ="audit-head+jws"), "no head"),
    ],
)
async def test_what_is_no_head_is_refused(
    database: Database, tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "head"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadHead, match=why):
        await operation.verify(database.url, kept=path, jwks=keys_file(tmp_path))


async def test_a_head_of_another_key_is_refused(database: Database, tmp_path: Path) -> None:
    kept = await head_file(database, tmp_path)
    with pytest.raises(BadHead, match="is not known"):
        await operation.verify(database.url, kept=kept, jwks=keys_file(tmp_path, jose.new_key()))


async def test_the_speed_of_verification_is_printed(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """CPU time, so that others on the machine do not count; the floor is far below what is."""
    rows = 5_000
    async with database.transaction() as tx:
        for first in range(0, rows, 1_000):
            journals = [evidence.fee(f"f{first + n}", 5) for n in range(1_000)]
            await evidence.ledger.post(tx, journals, now=NOW)
    async with database.transaction() as tx:
        assert await audit.seal(tx, limit=rows) == rows
    began, cpu = time.perf_counter(), os.times()
    async with database.reading() as tx:
        assert (await audit.verify(tx)).links == rows
    spent, used = time.perf_counter() - began, os.times()
    busy = used.user + used.system - cpu.user - cpu.system
    with capsys.disabled():
        told = f"{rows / spent:,.0f} links/s, {rows / busy:,.0f} a CPU s"
        print(f"\n{database.url[:6]}: {told}")  # noqa: T201 - a figure to be read
    assert rows / busy > 2_000
