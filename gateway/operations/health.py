"""Whether this process lives and whether it should be given requests, with the reasons.

Alive: the event loop answers. Ready: the database answers with a schema this version knows, a
signing key is there and opens, the worker inside has a pulse, and the process is not about to end.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import migrations
from gateway.db import Database
from gateway.oauth import service as oauth
from gateway.oauth.keys import Vault
from gateway.telemetry import work

log = logging.getLogger(__name__)

PATIENCE = 2.0  # Seconds a check may take.
KEPT = 1.0  # Seconds for which what was found is answered again: whoever asks is not known.
PULSE_SECONDS = 30.0  # A worker without a round for longer is taken for dead.


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `why` is a word, never an exception's text."""

    name: str
    ok: bool
    why: str = "ok"


class Health:
    """The health of one process.

    Args:
        signing: It hands out tokens, so it needs a signing key.
        working: A worker runs in it.
        kept: Seconds for which a finding is answered again.
    """

    def __init__(
        self,
        database: Database | None = None,
        *,
        signing: bool,
        working: bool,
        kept: float = KEPT,
    ) -> None:
        self.database = database  # None until the process has one.
        self.vault: Vault | None = None  # With it, whether it opens the signing key.
        self.signing = signing
        self.working = working
        self.stopping = False
        self._kept = kept
        self._found: list[Check] = []
        self._found_at = float("-inf")
        self._turn = asyncio.Lock()

    def stop(self) -> None:
        """Unready from now on: requests are still answered, but should go elsewhere."""
        self.stopping = True

    async def checks(self) -> list[Check]:
        """Every check; those of the database are at most `kept` seconds old."""
        async with self._turn:
            if time.monotonic() - self._found_at >= self._kept:
                self._found = await self._look()
                self._found_at = time.monotonic()
        found = list(self._found)
        if self.working:
            found.append(self._worker())
        found.append(Check("running", not self.stopping, "stopping" if self.stopping else "ok"))
        return found

    async def _look(self) -> list[Check]:
        if self.database is None:
            return [Check("database", False, "not opened")]
        looks: list[tuple[str, Callable[[Database], Awaitable[str]]]] = [
            ("database", _database),
            ("schema", _schema),
        ]
        if self.signing:
            looks.append(("keys", self._keys))
        found = []
        for name, look in looks:
            try:
                async with asyncio.timeout(PATIENCE):
                    why = await look(self.database)
            except TimeoutError:
                why = "no answer in time"
            except (sa.exc.SQLAlchemyError, OSError) as error:
                log.warning("not ready: %s", name, exc_info=error)
                why = "failed"
            found.append(Check(name, why == "ok", why))
            if why != "ok":
                break  # What comes next needs it.
        return found

    async def _keys(self, database: Database) -> str:
        async with database.reading() as tx:
            if await oauth.signing_since(tx) is None:
                return "no signing key"
            if self.vault is not None and not await oauth.opens_signing_key(tx, self.vault):
                return "sealed by another vault key"
        return "ok"

    def _worker(self) -> Check:
        age = work.pulse()
        if age is None:
            return Check("worker", False, "not begun")
        return Check("worker", age < PULSE_SECONDS, "ok" if age < PULSE_SECONDS else "no pulse")

    async def live(self, _request: Request) -> Response:
        """Answering is the proof."""
        return JSONResponse({"status": "ok"}, headers={"cache-control": "no-store"})

    async def ready(self, _request: Request) -> Response:
        """Each check; 503 when one fails."""
        found = await self.checks()
        ok = all(check.ok for check in found)
        body = {
            "status": "ok" if ok else "unready",
            "checks": {check.name: check.why for check in found},
        }
        return JSONResponse(body, 200 if ok else 503, {"cache-control": "no-store"})


async def _database(database: Database) -> str:
    async with database.reading() as tx:
        await tx.execute(sa.select(sa.literal(1)))
    return "ok"


async def _schema(database: Database) -> str:
    """Newer than ours is fine: a schema is widened before the version that needs it."""
    found = await migrations.current(database)
    return "ok" if found and found not in migrations.superseded() else "not the newest"
