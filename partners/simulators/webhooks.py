"""Webhooks to the gateway: Standard Webhooks signatures, kept and retried until they are taken.

A 2xx or a 410 ends an event; anything else is tried again after the configured pauses, the last of
which repeats.
"""

import asyncio
import base64
import hashlib
import hmac
import logging
import time

import httpx2

from partners.simulators.config import Webhook
from partners.simulators.core import Shop

log = logging.getLogger(__name__)


def sign(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of a body. Source: Standard Webhooks 1.0."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(mac.digest()).decode()}"


async def deliver(shop: Shop, http: httpx2.AsyncClient) -> None:
    """Send a merchant's events, oldest first, until cancelled."""
    hook = shop.config.webhook
    if hook is None:
        return
    while True:
        shop.wake.clear()
        now = time.time()
        rows = shop.store.rows(
            "SELECT * FROM events WHERE done IS NULL AND due <= ? ORDER BY id LIMIT 20", now
        )
        for row in rows:
            answer = await _send(http, hook, row["event_id"], row["body"].encode())
            done = answer if answer is not None and (answer < 300 or answer == 410) else None
            pauses = hook.retry_seconds
            pause = pauses[min(row["attempts"], len(pauses) - 1)]
            with shop.store.transaction() as db:
                db.execute(
                    "UPDATE events SET attempts = attempts + 1, done = ?, due = ? WHERE id = ?",
                    (done, time.time() + pause, row["id"]),
                )
        if rows:
            continue
        first = shop.store.row("SELECT MIN(due) AS due FROM events WHERE done IS NULL")
        due = first["due"] if first is not None else None
        try:
            async with asyncio.timeout(max(due - time.time(), 0.01) if due is not None else None):
                await shop.wake.wait()
        except TimeoutError:
            pass


async def _send(http: httpx2.AsyncClient, hook: Webhook, event_id: str, body: bytes) -> int | None:
    timestamp = int(time.time())
    headers = {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(hook.secret, event_id, timestamp, body),
    }
    try:
        answer = await http.post(hook.url, content=body, headers=headers)
    except httpx2.HTTPError as error:
        log.debug("webhook %s not taken: %r", event_id, error)
        return None
    return answer.status_code
