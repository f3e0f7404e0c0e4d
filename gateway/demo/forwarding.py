"""What `gateway events` and `gateway dev` run: events listed, sent again, forwarded."""

from collections.abc import Callable, Sequence

from gateway.db import system_now
from gateway.events import desk, service
from gateway.events.desk import Sent, span
from gateway.runtime import Runtime
from gateway.settings import Settings

Tell = Callable[[str], None]


async def listed(
    settings: Settings, *, failed: bool, since: str | None, limit: int
) -> list[tuple[str, ...]]:
    """Events with their deliveries, newest first; `since` is a time such as `1h`, back from now.

    With `failed` it is of the last try, in system time; else of the event, in business time.

    Raises:
        ValueError: `since` is none.
    """
    runtime = await Runtime.open(settings)
    try:
        now = system_now() if failed else runtime.clock.now()
        start = None if since is None else now - span(since)
        rows = await desk.listed(runtime.database, failed=failed, since=start, limit=limit)
    finally:
        await runtime.close()
    return [
        (row.at, row.event, row.type, row.merchant, row.state, row.attempts, row.answer)
        for row in rows
    ]


async def resend(settings: Settings, event_ids: Sequence[str]) -> tuple[int, list[str]]:
    """Queue events again; returns how many will be sent, and why others are not.

    Raises:
        NotFound: There is no such event.
    """
    runtime = await Runtime.open(settings)
    try:
        return await desk.resend(runtime.database, event_ids)
    finally:
        await runtime.close()


async def send_to(
    settings: Settings, event_ids: Sequence[str], url: str, *, merchant: str | None, tell: Tell
) -> bool:
    """Send events to an address at once; whether all were taken.

    Raises:
        NotFound: There is no such event.
        SandboxOnly: It is no sandbox.
    """
    secret = service.new_secret()
    runtime = await Runtime.open(settings)
    try:
        tell(_signed_with(secret))
        sent = await desk.send_to(
            runtime.webhooks, event_ids, url, merchant=merchant, secret=secret
        )
    finally:
        await runtime.close()
    for each in sent:
        tell(_line(each))
    return all(each.ok for each in sent)


async def forward(
    settings: Settings, url: str, *, merchant: str | None, count: int | None, tell: Tell
) -> None:
    """Send every event from now on to an address, until interrupted or after `count`.

    Raises:
        SandboxOnly: It is no sandbox.
    """
    secret, told = service.new_secret(), 0

    def note(sent: Sent) -> None:
        nonlocal told
        told += 1
        tell(_line(sent))

    runtime = await Runtime.open(settings)
    try:
        after = await desk.now_at(runtime.webhooks)
        tell(_signed_with(secret))
        await desk.follow(
            runtime.webhooks,
            url,
            after=after,
            merchant=merchant,
            secret=secret,
            tell=note,
            until=lambda: count is not None and told >= count,
        )
    finally:
        await runtime.close()


def _signed_with(secret: str) -> str:
    return f"signed with {secret}, or with the merchant's own secret if it has an endpoint"


def _line(sent: Sent) -> str:
    mark, status = ("✓" if sent.ok else "✗"), sent.status or "–"
    text = f"{mark} {status} {sent.milliseconds:>5} ms  {sent.merchant}  {sent.type}  {sent.event}"
    return text if sent.ok else f"{text}  {sent.answer}"
