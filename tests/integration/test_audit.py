"""The audit chain on real databases: whatever is changed behind its back is named."""

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa

from gateway.audit import invariants, service, store
from gateway.audit.model import HEAD_TYPE, BrokenChain, Fault, head_of, id_floor
from gateway.db import Database, metadata, system_now
from gateway.oauth import jose
from gateway.oauth.store import signing_keys
from gateway.values import new_id
from tests.support import evidence
from tests.support.evidence import KEY, NOW
from tests.support.issuers import open_books

CHAIN = ("audit_seals", "audit_heads")
TABLES = ("ledger_journals", "ledger_lines", "compliance_decisions", "audit_entries")
AGO = timedelta(hours=2)


async def broken(tx, **given) -> BrokenChain:
    with pytest.raises(BrokenChain) as found:
        await service.verify(tx, **given)
    return found.value


async def test_everything_sealed_verifies_and_is_sealed_once(database: Database) -> None:
    await evidence.sealed(database, 3)
    async with database.transaction() as tx:
        assert await service.seal(tx, limit=10) == 0
        seen: list[int] = []
        found = await service.verify(tx, batch=4, progress=seen.append)
        (result,) = await invariants.check(tx)
    assert found.links == 9
    assert found.tables == {"audit_entries": 3, "compliance_decisions": 3, "ledger_journals": 3}
    assert seen == [4, 8, 9]
    assert result.ok


async def test_the_seal_goes_on_in_batches(database: Database) -> None:
    for number in range(3):
        async with database.transaction() as tx:
            await evidence.write(tx, str(number))
    async with database.transaction() as tx:
        assert [await service.seal(tx, limit=4) for _ in range(4)] == [4, 4, 1, 0]
        assert (await service.verify(tx)).links == 9


async def _row(tx, table: str, number: int = 1) -> str:
    """Id of a table's `number`-th sealed row."""
    of = store.seals.c.source == table
    query = sa.select(store.seals.c.row_id).where(of).order_by(store.seals.c.number)
    return list(await tx.scalars(query))[number - 1]


@pytest.mark.parametrize(
    ("table", "key", "change"),
    [
        ("ledger_journals", "journal_id", "UPDATE ledger_journals SET actor = 'x'"),
        ("ledger_journals", "journal_id", "UPDATE ledger_lines SET amount = amount * 2"),
        ("ledger_journals", "journal_id", "DELETE FROM ledger_lines"),
        ("compliance_decisions", "decision_id", "UPDATE compliance_decisions SET verdict = 'x'"),
        ("audit_entries", "entry_id", "UPDATE audit_entries SET body = '{}'"),
    ],
)
async def test_a_changed_row_is_named(
    database: Database, table: str, key: str, change: str
) -> None:
    await evidence.sealed(database)
    async with database.transaction() as tx:
        await open_books(tx, *TABLES)
        row_id = await _row(tx, table, 2)
        await tx.execute(sa.text(f"{change} WHERE {key} = :id"), {"id": row_id})
        found = await broken(tx)
        (result,) = await invariants.check(tx)
    assert (found.table, found.row_id, found.fault) == (table, row_id, Fault.CHANGED)
    assert not result.ok
    assert row_id in result.detail


async def test_a_deleted_row_is_named(database: Database) -> None:
    await evidence.sealed(database)
    async with database.transaction() as tx:
        await open_books(tx, "audit_entries")
        row_id = await _row(tx, "audit_entries", 2)
        await tx.execute(sa.delete(store.entries).where(store.entries.c.entry_id == row_id))
        found = await broken(tx)
    assert (found.row_id, found.fault) == (row_id, Fault.DELETED)


async def test_an_inserted_row_is_named(database: Database) -> None:
    await evidence.sealed(database)
    async with database.transaction() as tx:
        row = (await tx.execute(sa.select(store.entries).limit(1))).one()._asdict()
        await tx.execute(sa.insert(store.entries).values(row | {"entry_id": "aud_00old"}))
        found = await broken(tx)
    assert (found.row_id, found.fault) == ("aud_00old", Fault.INSERTED)


async def test_swapped_rows_are_named(database: Database) -> None:
    await evidence.sealed(database)
    async with database.transaction() as tx:
        await open_books(tx, "audit_entries")
        first, third = [await _row(tx, "audit_entries", number) for number in (1, 3)]
        for old, new in ((first, "aud_x"), (third, first), ("aud_x", third)):
            where = store.entries.c.entry_id == old
            await tx.execute(sa.update(store.entries).where(where).values(entry_id=new))
        found = await broken(tx)
    assert (found.row_id, found.fault, found.detail) == (first, Fault.SWAPPED, f"with {third}")


@pytest.mark.parametrize(
    ("change", "number", "fault"),
    [
        ("UPDATE audit_seals SET seal = 'x' WHERE number = 4", 4, Fault.SEAL_CHANGED),
        ("UPDATE audit_seals SET digest = 'x' WHERE number = 4", 4, Fault.SEAL_CHANGED),
        ("DELETE FROM audit_seals WHERE number = 4", 4, Fault.SEAL_DELETED),
        ("UPDATE audit_seals SET number = 40 WHERE number = 4", 4, Fault.SEAL_DELETED),
    ],
)
async def test_a_changed_link_is_named(
    database: Database, change: str, number: int, fault: Fault
) -> None:
    await evidence.sealed(database)
    async with database.transaction() as tx:
        await open_books(tx, "audit_seals")
        await tx.execute(sa.text(change))
        found = await broken(tx)
    assert (found.table, found.row_id, found.fault) == ("audit_seals", str(number), fault)


async def test_a_tail_that_was_cut_contradicts_the_signed_head(database: Database) -> None:
    await evidence.sealed(database)
    async with database.transaction() as tx:
        await evidence.sign_head(tx)
        await open_books(tx, "audit_seals", "audit_entries")
        row_id = await _row(tx, "audit_entries", 3)
        cut = sa.select(store.seals.c.number).where(store.seals.c.row_id == row_id)
        after = store.seals.c.number >= cut.scalar_subquery()
        await tx.execute(sa.delete(store.seals).where(after))
        await tx.execute(sa.delete(store.entries).where(store.entries.c.entry_id == row_id))
        found = await broken(tx)
    assert found.fault is Fault.TAIL_CUT


async def test_only_a_kept_head_finds_a_chain_rewritten_as_a_whole(database: Database) -> None:
    await evidence.sealed(database)
    async with database.transaction() as tx:
        kept = head_of(jose.decode(await evidence.sign_head(tx), KEY)[1])
        assert (await service.verify(tx, kept=kept)).heads == 1
        await open_books(tx, *CHAIN, "audit_entries")
        await tx.execute(sa.text("UPDATE audit_entries SET actor = 'somebody else'"))
        await tx.execute(store.heads.delete())
        await evidence.rewrite(tx)
        await evidence.sign_head(tx)
        assert (await service.verify(tx)).links == 9  # In itself it fits again.
        found = await broken(tx, kept=kept)
    assert found.fault is Fault.REWRITTEN
    assert str(kept.made_at) in found.detail


async def test_a_head_is_signed_once_a_day_and_again_for_a_settlement(database: Database) -> None:
    await evidence.sealed(database, 1)
    later = NOW + timedelta(minutes=5)
    async with database.transaction() as tx:
        first = await evidence.sign_head(tx)
        assert await evidence.sign_head(tx, now=later) == first
        settlement = await evidence.sign_head(tx, since=later, now=later)
        assert settlement != first
        assert await evidence.sign_head(tx, since=later, now=NOW + timedelta(days=1)) == settlement
        newest = await service.newest_head(tx)
        header, claims = jose.decode(settlement, KEY)
    assert newest and newest["token"] == settlement
    assert header == {"alg": "ES256", "typ": "audit-head+jws", "kid": KEY.kid}
    assert (claims["number"], claims["count"], claims["seal"]) == (3, 3, newest["seal"])


async def test_an_empty_chain_has_no_head(database: Database) -> None:
    async with database.transaction() as tx:
        signed = await service.sign_head(
            tx, sign=evidence.signer(), issuer="http://gateway", since=NOW, now=NOW
        )
        assert signed is None
        assert (await service.verify(tx)).links == 0


async def test_a_late_commit_makes_no_gap(database: Database) -> None:
    """The first transaction makes its rows first and commits last."""
    if not database.url.startswith("postgresql"):
        pytest.skip("SQLite has one writer: no two transactions overlap")
    began, sealed = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with database.transaction() as tx:
            await evidence.write(tx, "slow")
            began.set()
            await sealed.wait()

    task = asyncio.create_task(slow())
    await began.wait()
    async with database.transaction() as tx:
        await evidence.write(tx, "fast")
    async with database.transaction() as tx:
        assert await service.seal(tx, limit=100) == 3
    sealed.set()
    await task
    async with database.transaction() as tx:
        assert await service.seal(tx, limit=100) == 3
        assert (await service.verify(tx)).links == 6
        numbers = list(await tx.scalars(sa.select(store.seals.c.number).order_by("number")))
    assert numbers == [1, 2, 3, 4, 5, 6]


async def test_what_was_committed_very_late_is_sealed_when_one_looks_further_back(
    database: Database,
) -> None:
    await evidence.sealed(database, 1)
    old = id_floor(new_id("aud"), margin_ms=120_000) + "0" * 16
    row = {"entry_id": old, "kind": "late", "subject": "s", "actor": "a", "body": {}}
    async with database.transaction() as tx:
        await store.insert_entry(tx, row | {"recorded_at": NOW})
    async with database.transaction() as tx:
        assert await service.seal(tx, limit=10, margin=service.USUAL) == 0
        assert await service.seal(tx, limit=10) == 1
        assert (await service.verify(tx)).links == 4


async def test_two_sealers_make_one_chain(database: Database) -> None:
    async with database.transaction() as tx:
        await evidence.write(tx, "one")

    async def seal() -> int:
        async with database.transaction() as tx:
            return await service.seal(tx, limit=100)

    assert sorted(await asyncio.gather(*(seal() for _ in range(4)))) == [0, 0, 0, 3]


@pytest.mark.parametrize("table", [*TABLES, *CHAIN, "points_lot_movements", "partner_facts"])
async def test_the_database_refuses_changes_of_evidence(database: Database, table: str) -> None:
    await evidence.sealed(database, 1)
    async with database.transaction() as tx:
        await evidence.sign_head(tx)
    rows = metadata.tables[table]
    changes: list[sa.Executable] = [
        sa.update(rows).values({rows.columns[0].name: rows.columns[0]}),
        sa.delete(rows),
    ]
    if database.url.startswith("postgresql"):
        changes.append(sa.text(f"TRUNCATE {table} CASCADE"))
    elif table in ("points_lot_movements", "partner_facts"):
        return  # SQLite's triggers are per row, and there is none.
    for change in changes:
        with pytest.raises(sa.exc.DBAPIError, match="is append-only"):
            async with database.transaction() as tx:
                await tx.execute(change)


async def _old_entry(tx, before: timedelta) -> str:
    """An entry that was made so long ago."""
    made = id_floor(new_id("aud"), margin_ms=before // timedelta(milliseconds=1)) + "0" * 16
    row = {"entry_id": made, "kind": "k", "subject": "s", "actor": "a", "body": {}}
    await store.insert_entry(tx, row | {"recorded_at": NOW})
    return made


async def test_rows_whose_links_are_all_gone_are_named(database: Database) -> None:
    async with database.transaction() as tx:
        await our_keys(tx, KEY, jose.new_key())
        old = await _old_entry(tx, AGO)
    await evidence.sealed_after(database, 1)
    async with database.transaction() as tx:
        await evidence.sign_head(tx)
        await open_books(tx, *CHAIN)
        await tx.execute(store.heads.delete())
        await tx.execute(store.seals.delete())
        found = await broken(tx)
    assert (found.table, found.row_id, found.fault) == ("audit_entries", old, Fault.UNSEALED)


async def test_rows_whose_heads_and_tail_are_gone_are_named(database: Database) -> None:
    async with database.transaction() as tx:
        await _old_entry(tx, 2 * AGO)
        cut = await _old_entry(tx, AGO)
    await evidence.sealed_after(database, 2)
    async with database.transaction() as tx:
        await open_books(tx, *CHAIN)
        await tx.execute(store.seals.delete().where(store.seals.c.number > 1))
        found = await broken(tx)
    assert (found.table, found.row_id, found.fault) == ("audit_entries", cut, Fault.UNSEALED)


async def test_what_was_committed_just_now_may_wait(database: Database) -> None:
    async with database.transaction() as tx:
        await _old_entry(tx, AGO)
    await evidence.sealed_after(database, 1)
    async with database.transaction() as tx:
        await evidence.write(tx, "new")
        await _old_entry(tx, timedelta(minutes=59))
        assert (await service.verify(tx)).links == 4


async def our_keys(tx, *keys, age: timedelta = timedelta(days=1)) -> None:
    """Keys of the gateway, the first the oldest; the last signs next."""
    states = ["NEXT", "ACTIVE", "RETIRED"]
    for number, (key, state) in enumerate(zip(reversed(keys), states, strict=False)):
        row = {"kid": key.kid, "state": state, "jwk": key.as_dict(private=False), "sealed": ""}
        row["retired_at"] = system_now() if state == "RETIRED" else None
        row["created_at"] = system_now() - age - number * timedelta(days=1)
        await tx.execute(sa.insert(signing_keys).values(row))


async def test_links_without_any_head_are_named(database: Database) -> None:
    async with database.transaction() as tx:
        await our_keys(tx, KEY, jose.new_key())
        await _old_entry(tx, AGO)
    await evidence.sealed_after(database, 1)
    async with database.transaction() as tx:
        found = await broken(tx)
        await evidence.sign_head(tx)
        assert (await service.verify(tx)).heads == 1
    assert (found.table, found.fault) == ("audit_heads", Fault.HEADS_DELETED)


async def test_the_first_links_wait_for_their_head(database: Database) -> None:
    await evidence.sealed(database, 1)
    async with database.transaction() as tx:
        await our_keys(tx, KEY, jose.new_key())
        assert (await service.verify(tx)).heads == 0


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize(
    "change",
    [
        {"token": "x"},
        {"token": jose.encode({"number": 9}, KEY, typ=HEAD_TYPE)},
        {"token": jose.encode({"number": 9}, KEY, typ="at+jwt")},
        {"made_at": NOW + timedelta(days=1)},
        {"seal": "0" * 64},
        {"number": 8},
    ],
    ids=["no token", "no head", "another type", "another instant", "another seal", "another link"],
)
async def test_a_changed_head_is_named(database: Database, change: dict, ours: bool) -> None:
    await evidence.sealed(database)
    async with database.transaction() as tx:
        if ours:
            await our_keys(tx, KEY, jose.new_key())
        await evidence.sign_head(tx)
        assert (await service.verify(tx)).heads == 1
        await open_books(tx, "audit_heads")
        await tx.execute(store.heads.update().values(change))
        found = await broken(tx)
    assert (found.table, found.fault) == ("audit_heads", Fault.HEAD_CHANGED)
    assert found.row_id.startswith("hed_")


async def test_a_head_of_somebody_elses_key_is_named(database: Database) -> None:
    other = jose.new_key()
    await evidence.sealed(database)
    async with database.transaction() as tx:
        await our_keys(tx, KEY, jose.new_key())
        await service.sign_head(
            tx, sign=evidence.signer(other), issuer="http://gateway", since=NOW, now=NOW
        )
        found = await broken(tx)
    assert found.fault is Fault.HEAD_CHANGED
    assert f"key {other.kid} is not ours" in found.detail


async def test_a_head_of_a_key_that_is_gone_fits_by_its_copy(database: Database) -> None:
    """It was made before the second of the keys that are left."""
    await evidence.sealed(database)
    async with database.transaction() as tx:
        await evidence.sign_head(tx)
        await our_keys(tx, jose.new_key(), jose.new_key(), age=-timedelta(minutes=1))
        assert (await service.verify(tx)).heads == 1
