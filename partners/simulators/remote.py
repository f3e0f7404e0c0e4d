"""A client of the control port: makes simulated merchants act and misbehave."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx2


class Control:
    """The control port of a running `python -m partners.simulators`.

    Args:
        url: As in the ports file, under `control`.
        token: As in the configuration, under `control.token`.
    """

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
        )

    async def fault(
        self,
        merchant: str,
        fault: str,
        *,
        member_ref: str = "*",
        offer_id: str = "*",
        value: Any = None,
        verb: str | None = None,
        count: int | None = None,
    ) -> None:
        """Plant a fault (see simulators/faults.py); `count` times, or for ever."""
        row = {
            "merchant": merchant,
            "fault": fault,
            "member_ref": member_ref,
            "offer_id": offer_id,
            "value": value,
            "verb": verb,
            "count": count,
        }
        await self._call("POST", "/faults", row)

    async def clear(self, merchant: str | None = None) -> None:
        """Take all faults away."""
        await self._call("DELETE", "/faults", {"merchant": merchant} if merchant else {})

    async def fulfil(
        self,
        merchant: str,
        ref: str,
        *,
        now: datetime,
        final_fare_fen: int | None = None,
        notify: bool = True,
    ) -> dict[str, Any]:
        """Serve a booking, named by its ref, its code or the gateway's ref."""
        row: dict[str, Any] = {"event": "fulfil", "final_fare_fen": final_fare_fen}
        return await self.event(merchant, ref, row, now=now, notify=notify)

    async def cancel(
        self, merchant: str, ref: str, *, now: datetime, notify: bool = True
    ) -> dict[str, Any]:
        """Cancel a booking by the merchant."""
        return await self.event(merchant, ref, {"event": "cancel"}, now=now, notify=notify)

    async def event(
        self, merchant: str, ref: str, row: Mapping[str, Any], *, now: datetime, notify: bool = True
    ) -> dict[str, Any]:
        """Any event: fulfil, no_show, cancel, decide (with `confirmed`)."""
        document = {**row, "booking_ref": ref, "now": now.isoformat(), "notify": notify}
        answer: dict[str, Any] = await self._call("POST", f"/merchants/{merchant}/events", document)
        return answer

    async def act(self, merchant: str, act: str, *, now: datetime, **more: Any) -> Any:
        """An act that only its vertical knows, as `check_in` at a car shop."""
        row = {"act": act, "now": now.isoformat(), **more}
        return await self._call("POST", f"/merchants/{merchant}/acts", row)

    async def offer(self, merchant: str, id: str, change: Mapping[str, Any] | None) -> None:
        """Change or add an offer; None deletes it."""
        await self._call("POST", f"/merchants/{merchant}/offers", {"id": id, "change": change})

    async def expire_tokens(self, merchant: str) -> None:
        """Make every token of a merchant expired."""
        await self._call("POST", f"/merchants/{merchant}/tokens/expire", {})

    async def stop(self, merchant: str) -> None:
        """Shut its door: connections are refused."""
        await self._call("POST", f"/merchants/{merchant}/stop", {})

    async def start(self, merchant: str) -> None:
        """Open its door again, on the same port."""
        await self._call("POST", f"/merchants/{merchant}/start", {})

    async def state(self, merchant: str) -> dict[str, Any]:
        """Its bookings, holds, stock, slots, fences, notices, lines and events."""
        answer: dict[str, Any] = await self._call("GET", f"/merchants/{merchant}/bookings", None)
        return answer

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _call(self, method: str, path: str, row: Mapping[str, Any] | None) -> Any:
        answer = await self._http.request(method, path, json=row)
        if answer.status_code != 200:
            raise ValueError(f"{path}: {answer.status_code} {answer.text}")
        return answer.json()
