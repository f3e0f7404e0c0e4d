"""Every adapter keeps the partner contract, on a stand-in over real HTTP."""

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime

import httpx2
import pytest

from gateway.oauth.client import partner_client
from partners import ADAPTERS, SANDBOXES, Connection
from partners.conformance import CHECKS, Box, Check, Status, certify, run
from partners.conformance.stand_in import Plan, at, merchant_of, plan
from partners.simulators.remote import Control
from tests.support import simulators

GROUPS = {"A": 6, "C": 15, "F": 8}
NOT_HERE = {"CF-A06"}  # Our partners declare no mTLS or DPoP.
BY_SECRET = {("cinemas", "CF-A05")}  # A secret carries no time.


def client_for(connection: Connection, clock: Callable[[], datetime]) -> httpx2.AsyncClient:
    """The gateway's own client."""
    return partner_client(connection, clock=clock, sandbox=True, timeout=10, concurrency=32)


@pytest.fixture(scope="session")
def planned() -> Plan:
    return plan()


@pytest.fixture(scope="session")
def stands(planned: Plan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[simulators.Running]:
    """One process with a stand-in per adapter, for the whole session."""
    with simulators.running(planned.document, tmp_path_factory.mktemp("stands")) as process:
        yield process


@pytest.fixture
async def box(
    request: pytest.FixtureRequest, planned: Plan, stands: simulators.Running
) -> AsyncIterator[Box]:
    name = request.param
    connection = planned.connection(name, stands.ports["merchants"][merchant_of(name)])
    control = Control(stands.ports["control"], stands.ports["control_token"])
    async with at(connection, client_for, control=control) as opened:
        yield opened
    await control.clear()
    await control.aclose()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.id}-{check.run.__name__}")
@pytest.mark.parametrize("box", sorted(ADAPTERS), indirect=True)
async def test_partner_keeps_the_contract(box: Box, check: Check) -> None:
    result = await run(check, box)

    may_skip = check.id in NOT_HERE or (box.connection.adapter, check.id) in BY_SECRET
    expected = Status.SKIP if may_skip else Status.PASS
    assert result.status is expected, f"{result.reason}\n" + "\n".join(result.exchanges)


async def test_an_operator_runs_the_same_checks_on_a_sandbox_of_its_own() -> None:
    async with SANDBOXES["graphql"](client_for) as box:
        results = await certify(box, ["F"])

    assert [result.check.id for result in results] == [f"CF-F0{n}" for n in range(1, 9)]
    assert {result.status for result in results} == {Status.PASS}
    assert all(result.exchanges for result in results)


def test_every_check_of_the_groups_is_there_once_and_in_both_languages() -> None:
    ids = [check.id for check in CHECKS]

    assert ids == [
        f"CF-{group}{n:02}" for group, count in GROUPS.items() for n in range(1, count + 1)
    ]
    assert all(check.zh and check.en and check.hint for check in CHECKS)
