"""`gateway demo`: everything from an empty database to the last invariant, with a verdict."""

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from gateway.demo import audit, install, supervisor
from gateway.demo.clients import Unexpected, Wire
from gateway.demo.data import demo_day
from gateway.demo.day import Day
from gateway.demo.finance import Finance
from gateway.demo.graph import Graph
from gateway.demo.joined import Joined
from gateway.demo.processes import NotStarted
from gateway.demo.scenes import Scenes
from gateway.demo.show import PLAIN_WIDTH, Show
from gateway.demo.supervisor import Stage
from gateway.demo.world import World
from gateway.settings import Settings

STEPS = 60
_PLAYED: dict[str, Any] = {
    "worker_inside": False,
    "worker_poll_seconds": 0.25,
    "login_tries_per_minute": 1_000,  # Everybody logs in at once, from one address.
    "live_timeout_seconds": 15.0,  # Else a slow machine's partners are warned of as if down.
    "database_wait_seconds": 60.0,
}


async def play(
    settings: Settings, expected: Mapping[str, Any], *, console: Console, keep: bool = False
) -> bool:
    """Play the demo; True when everything is as expected.

    Args:
        settings: The database is the settings' if they name one, which must be empty; all else
            lies in a new folder.
        expected: The demo day's document.
        keep: Leave it running at the end, until interrupted.
    """
    if playing := asyncio.current_task():
        supervisor.on_signals(playing.cancel)
    home = Path(tempfile.mkdtemp(prefix="gateway-demo-"))
    with Show(console, steps=STEPS) as show:
        made = replace(settings, home=home, **_PLAYED)
        show.phase("启动", "start")
        try:
            async with supervisor.running(made) as stage:
                await _play(stage, expected, show)
                if keep:
                    await _kept(stage, show)
        except (Unexpected, NotStarted) as error:
            show.same("演示 the play", "to its end", f"{type(error).__name__}: {error}")
        finally:
            if show.holds:
                shutil.rmtree(home)
            else:
                show.say(f"  日志 logs: {home}")
        return _verdict(show)


def _verdict(show: Show) -> bool:
    show.phase("结果", "verdict")
    if show.holds:
        show.say(f"  [bold green]✓ {show.checked} 项核对全部一致 checks, all as expected[/]")
    for finding in show.findings:
        show.say(f"  [bold red]✗[/] {escape(finding.title)}")
    return show.holds


async def _play(stage: Stage, expected: Mapping[str, Any], show: Show) -> None:
    async with AsyncExitStack() as stack:
        wire = Wire.open(stage.base_url)
        stack.push_async_callback(wire.aclose)
        world = World(show, wire, stage.made, expected)
        stack.push_async_callback(world.aclose)
        show.say(f"  API {stage.base_url}/graphql")
        show.say(
            f"  {len(world.names)} 家商户的系统 merchants' own systems, each a server of its own"
        )
        show.step(5)
        logins = {row["member"] for row in (*expected["redemptions"], *expected["donations"])}
        await world.log_in([*sorted(logins), "usr_operator", "usr_fin_maker"])
        show.step(2)
        day = Day(world)
        await day.play()
        if not show.holds:
            return  # The scenes begin where the day should have ended.
        await Scenes(world, stage).play()
        await Finance(world, day).play()
        await Graph(world).play()
        await Joined(world, stage.hotel, day).play()
    show.phase("不变量", "invariants")
    audit.show(show, await audit.check(stage.settings.url))
    show.step()


async def _kept(stage: Stage, show: Show) -> None:
    """Leave it running until somebody has seen enough."""
    show.phase("继续运行", "left running, Ctrl-C ends it")
    for line in install.announcement(stage.settings, stage.made):
        show.say(f"  {line}")
    stopped = asyncio.Event()
    supervisor.on_signals(stopped.set)
    show.pause()
    await stopped.wait()


def console() -> Console:
    """The terminal; or, where there is none, plain lines of a fixed width."""
    made = Console()
    return made if made.is_terminal else Console(width=PLAIN_WIDTH)


def run(
    settings: Settings, expected: Mapping[str, Any] | None = None, *, keep: bool = False
) -> bool:
    """Play the demo in an event loop of its own; by default what our data says."""
    try:
        return asyncio.run(play(settings, expected or demo_day(), console=console(), keep=keep))
    except asyncio.CancelledError:
        return False  # Interrupted; what had been started has been stopped.
