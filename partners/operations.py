"""The optional listing, in the coalition's own words: the same path and JSON at every partner that
offers it but speaks no contract.graphql. What an operation is: `gateway.ports.Listing`."""

from datetime import datetime
from typing import Any

from gateway.ports import Claim, Fact, Operation, OperationsPage, Outcome, Told
from partners.http import Line, fen, instant, maybe_instant, strings, text

PATH = "/coalition/operations"


async def read(line: Line, since: datetime, cursor: str | None) -> OperationsPage:
    """Ask for one page.

    Raises:
        PartnerUnavailable: No readable answer; asking again is harmless.
    """
    asked = {"since": since.isoformat()} | ({"cursor": cursor} if cursor else {})
    return await line.ask("GET", PATH, lambda body: page(body["data"]["operations"]), params=asked)


def page(row: Any) -> OperationsPage:
    """Read a page.

    Raises:
        KeyError, TypeError, ValueError: It is none.
    """
    return OperationsPage(
        operations=tuple(_operation(each) for each in row["operations"]),
        events=tuple(Told(text(each["eventId"]), dict(each["body"])) for each in row["events"]),
        cursor=text(row["cursor"]),
        more=row["more"] is True,
    )


def _operation(row: Any) -> Operation:
    said, list_fen = row["fact"], row["listFen"]
    fact = Fact(
        op_key=text(said["opKey"]),
        outcome=Outcome(text(said["outcome"]).lower()),
        version=fen(said["version"]),
        booking_ref=said["bookingRef"],
        hold_ref=said["holdRef"],
        expires_at=maybe_instant(said["expiresAt"]),
        reason=said["reason"],
        artefacts=strings(said["artefacts"]),
    )
    return Operation(
        at=instant(row["at"]),
        fact=fact,
        gateway_ref=row["gatewayRef"],
        offer_id=row["offerId"],
        member_ref=row["memberRef"],
        list_fen=None if list_fen is None else fen(list_fen),
        claims=tuple(Claim(text(c["issuer"]), fen(c["faceFen"])) for c in row["claims"]),
    )
