"""Redemptions on PostgreSQL at service level: what one costs our process and the server.

The partner is instant and in this process; synchronous_commit is on. Processor time of the
server is read from /proc: all its processes, those that ended meanwhile included.
"""

import asyncio
import os
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.catalog.pricing import LegInput
from gateway.db import Database
from gateway.redemption.model import State
from tests.bench import place, redemption, script
from tests.integration.conftest import Coalition
from tests.support import postgres

CLIENTS = 16
TICKS = os.sysconf("SC_CLK_TCK")
Row = dict[str, float | int | str]


def server_cpu(pid: int) -> float:
    """Seconds a server's processes have used; children that ended are in their parent's sum."""
    total = 0
    for folder in Path("/proc").iterdir():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (OSError, NotADirectoryError):
            continue
        mine, parent = folder.name == str(pid), fields[1] == str(pid)
        if mine or parent:
            total += sum(int(tick) for tick in fields[11 : 15 if mine else 13])
    return total / TICKS


async def _one_member(coalition: Coalition, member: str, act: str) -> None:
    if act == "redeemOffer":
        done, _ = await coalition.redemptions.redeem(
            member_id=member,
            offer_id=redemption.OFFER,
            slot=None,
            quantity=1,
            bill_fen=None,
            legs=[LegInput(redemption.PROGRAMME, None)],
            cash_fen=None,
            key=coalition.key(),
        )
    else:
        done = await coalition.redeemed(member, redemption.OFFER, (redemption.PROGRAMME, None))
    assert done.state is State.COMMITTED


async def _timed(
    name: str, pid: int, coalition: Coalition, members: list[str], *, each: int
) -> Row:
    """`each` redemptions of every member, the members at once."""

    async def client(member: str) -> list[float]:
        took = []
        for _ in range(each):
            began = time.perf_counter()
            await _one_member(coalition, member, name)
            took.append(time.perf_counter() - began)
        return took

    await asyncio.gather(*(client(member) for member in members[: max(1, len(members) // 2)]))
    with script.recorded(coalition.database) as said:
        await _one_member(coalition, members[0], name)
    ours, theirs, began = time.process_time(), server_cpu(pid), time.perf_counter()
    runs = await asyncio.gather(*(client(one) for one in members))
    seconds = time.perf_counter() - began
    took = sorted(one for run in runs for one in run)
    count = len(took)
    return {
        "operation": name,
        "clients": len(members),
        "redemptions": count,
        "statements": said.statements,
        "commits": said.commits,
        "per_second": round(count / seconds, 1),
        "p50_ms": round(took[count // 2] * 1e3, 1),
        "p99_ms": round(took[int(count * 0.99)] * 1e3, 1),
        "our_cpu_ms": round((time.process_time() - ours) / count * 1e3, 2),
        "server_cpu_ms": round((server_cpu(pid) - theirs) / count * 1e3, 2),
    }


async def _fill(url: str) -> list[str]:
    database = Database(url)
    await place.fill_open(database)
    members = [f"mbr_bench_{number}" for number in range(CLIENTS)]
    async with database.transaction() as tx:
        for member in members:
            await place.member(tx, member)
    await database.close()
    return members


async def run(url: str, pid: int, *, each: int) -> list[Row]:
    members = await _fill(url)
    database = Database(url, pool_size=CLIENTS)
    coalition = place.coalition(database)
    rows = []
    for name in ("quote, hold, confirm", "redeemOffer"):
        for count in (1, CLIENTS):
            more = each if count > 1 else each * 3
            rows.append(await _timed(name, pid, coalition, members[:count], each=more))
    assert await coalition.broken() == []
    await database.close()
    return rows


def measure(*, rounds: int) -> list[Row]:
    """The figures on a server of its own, which is gone afterwards."""
    with postgres.running() as server:
        assert server._process
        return asyncio.run(run(server.create("bench"), server._process.pid, each=rounds * 3))


def print_rows(console: Console, rows: list[Row]) -> None:
    table = Table(title="PostgreSQL, synchronous_commit=on: one redemption, partner instant")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name == "operation" else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
