"""The sandbox clock moves through the API, for every process; live mode refuses."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from starlette.routing import Route

from gateway.db import Clock
from gateway.oauth.scopes import Role
from tests.support.gateway import running


async def test_the_clock_is_moved_for_all_processes(seeded, tmp_path):
    asked = {"at": "2027-02-06T10:00:00+08:00", "idempotencyKey": "clock"}
    async with running(seeded, tmp_path, clock=Clock(), partners={}) as gateway:
        operator = await gateway.staff(Role.OPERATOR, "usr_operator")
        moved = await operator.did("setSandboxClock", "now", **asked)
        assert moved["now"].startswith("2027-02-06T02:00:0")
        member = await gateway.member("mbr_demo_01")
        wallets = (await member.data("{ me { wallets { asOf } } }"))["me"]["wallets"]
        assert wallets[0]["asOf"].startswith("2027-02-06")
        assert (await operator.did("setSandboxClock", "now", **asked))["replayed"]
    other = Clock()
    async with seeded.reading() as tx:
        await other.refresh(tx)
    distance = other.now() - datetime(2027, 2, 6, 2, tzinfo=UTC)
    assert timedelta() <= distance < timedelta(minutes=1)


async def test_in_live_mode_the_clock_stands(seeded, tmp_path):
    async with running(seeded, tmp_path, clock=Clock(), partners={}) as gateway:
        live = replace(gateway.runtime.settings, mode="live")
        gateway.runtime.redemptions.settings = live
        operator = await gateway.staff(Role.OPERATOR, "usr_operator")
        for route in gateway.app.router.routes:
            if isinstance(route, Route) and route.path == "/graphql":
                route.endpoint.__self__.services.settings = live
        answer = await operator.ask(
            'mutation { setSandboxClock(input: {at: "2027-02-06T10:00:00Z",'
            ' idempotencyKey: "k"}) { now } }'
        )
        assert answer.codes == ["SANDBOX_ONLY"]
        assert answer.body["data"] == {"setSandboxClock": None} or answer.body["data"] is None
