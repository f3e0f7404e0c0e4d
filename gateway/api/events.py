"""A merchant's events and webhooks; and the subscriptions, which follow events as they happen."""

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any, Self

import strawberry
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.api import connections
from gateway.api.connections import Connection, Edge, PageInfo
from gateway.api.context import Context, Info
from gateway.api.errors import Effect, Payload
from gateway.api.partner import merchant_of
from gateway.api.redemption_types import Redemption, may_see
from gateway.api.scalars import JSON
from gateway.db import system_now
from gateway.events import model
from gateway.events import service as events
from gateway.values import InvalidInput

DELIVERIES_SHOWN = 50
_RESEND_MOST = 500


@strawberry.type
class Event:
    """One state change. `sequence` counts from 1 per object; see docs/events.md for the types.

    `cursor` is its place in the merchant's feed: `partnerEvents(after)` goes on from there.
    """

    id: strawberry.ID
    type: str
    object: strawberry.ID
    sequence: int
    occurred_at: datetime
    data: JSON
    cursor: str | None

    @classmethod
    def of(cls, context: Context, event: model.Event, position: int | None = None) -> Self:
        merchant_id = context.actor.merchant_id
        assert merchant_id is not None, "the policy lets merchants in only"
        told = context.services.webhooks.document_for(event, merchant_id)
        return cls(
            id=strawberry.ID(event.id),
            type=event.type,
            object=strawberry.ID(event.object_id),
            sequence=event.seq,
            occurred_at=event.occurred_at,
            data=told["data"],
            cursor=None if position is None else connections.cursor(str(position)),
        )


@strawberry.type
class WebhookDelivery:
    """One event for one endpoint: DUE, DELIVERED, or DEAD after the last try."""

    event: Event
    state: model.DeliveryState
    attempts: int
    due_at: datetime | None
    status: int | None
    answer: str | None
    sent_at: datetime | None

    @classmethod
    def of(cls, context: Context, delivery: model.Delivery) -> Self:
        waiting = delivery.state is model.DeliveryState.DUE
        return cls(
            event=Event.of(context, delivery.event),
            state=delivery.state,
            attempts=delivery.attempts,
            due_at=delivery.due_at if waiting else None,
            status=delivery.status,
            answer=delivery.answer,
            sent_at=delivery.sent_at,
        )


@strawberry.type
class Webhook:
    """Where a merchant wants its events. GONE after a 410; PAUSED by the merchant itself."""

    id: strawberry.ID
    url: str
    types: list[str]
    state: model.EndpointState
    created_at: datetime

    @classmethod
    def of(cls, found: model.Endpoint) -> Self:
        return cls(
            id=strawberry.ID(found.id),
            url=found.url,
            types=list(found.types),
            state=found.state,
            created_at=found.created_at,
        )

    @strawberry.field
    async def deliveries(self, info: Info, failed: bool = False) -> list[WebhookDelivery]:
        """The newest 50; with `failed` those only whose last try failed."""
        async with info.context.reading() as tx:
            found = await events.deliveries_of(
                tx, endpoint_ids=[self.id], failed=failed, limit=DELIVERIES_SHOWN
            )
        return [WebhookDelivery.of(info.context, each) for each in found]


@strawberry.input
class EventsFilter:
    """All given conditions hold. `types` may be patterns such as `redemption.*`."""

    types: list[str] | None = None
    object: strawberry.ID | None = None
    since: datetime | None = None


@strawberry.type
class EventQuery:
    @strawberry.field
    async def events(
        self,
        info: Info,
        filter: EventsFilter | None = None,
        first: int = connections.PAGE_SIZE,
        after: str | None = None,
    ) -> Connection[Event]:
        """What happened that concerns the merchant, newest first."""
        count, asked = connections.size(first), filter or EventsFilter()
        async with info.context.reading() as tx:
            found = await events.events_of(
                tx,
                merchant_of(info),
                types=asked.types,
                object_id=asked.object,
                since=asked.since,
                before=_position(after),
                limit=count + 1,
            )
        edges = [
            Edge(
                node=Event.of(info.context, event, position),
                cursor=connections.cursor(str(position)),
            )
            for position, event in found[:count]
        ]
        end = edges[-1].cursor if edges else None
        return Connection(
            edges=edges, page_info=PageInfo(has_next_page=len(found) > count, end_cursor=end)
        )

    @strawberry.field
    async def webhooks(self, info: Info) -> list[Webhook]:
        """The merchant's endpoints, oldest first."""
        async with info.context.reading() as tx:
            found = await events.endpoints(tx, merchant_id=merchant_of(info))
        return [Webhook.of(each) for each in found]


def _position(after: str | None) -> int | None:
    """The position inside a cursor of events.

    Raises:
        InvalidInput: It is none.
    """
    key = connections.key_of(after)
    if key is None:
        return None
    if not (key.isascii() and key.isdigit() and len(key) < 18):
        raise InvalidInput("after", "a cursor of this list")
    return int(key)


@strawberry.input
class RegisterWebhookInput:
    """Where events are to be sent; for a registered one, `webhook` says which is changed.

    An https address on port 443 or 8443; in the sandbox also http on loopback. Types as in
    docs/events.md, or patterns such as `redemption.*`. With `rotateSecret` there is a new secret,
    and for 24 hours both sign.
    """

    url: str
    types: list[str]
    idempotency_key: str
    webhook: strawberry.ID | None = None
    active: bool = True
    rotate_secret: bool = False


@strawberry.type
class RegisterWebhookPayload(Payload):
    """`secret` (`whsec_…`) is shown once: with the answer that made it, not with a replay."""

    webhook: Webhook | None = None
    secret: str | None = None


@strawberry.input
class ResendEventsInput:
    """Either `events`, or all that were given up and occurred at `failedSince` or later."""

    idempotency_key: str
    events: list[strawberry.ID] | None = None
    failed_since: datetime | None = None
    webhook: strawberry.ID | None = None


@strawberry.type
class ResendEventsPayload(Payload):
    """`count`: how many will be sent; one that waits for its next try anyway is not counted."""

    count: int | None = None


@strawberry.type
class EventMutation:
    @strawberry.mutation(extensions=[Effect()])
    async def register_webhook(
        self, info: Info, input: RegisterWebhookInput
    ) -> RegisterWebhookPayload:
        """Register an endpoint for events, or change one. Its secret is shown once."""
        context, secret = info.context, None
        given: dict[str, Any] = {"merchant_id": merchant_of(info), "url": input.url}
        given |= {"types": input.types, "vault": context.services.webhooks.vault}
        given |= {"sandbox": context.services.settings.sandbox}

        async def make(tx: AsyncConnection) -> str:
            nonlocal secret
            if input.webhook is None:
                made, secret = await events.register(tx, **given, now=context.now)
            else:
                made, secret = await events.change(
                    tx,
                    **given,
                    endpoint_id=input.webhook,
                    active=input.active,
                    rotate=input.rotate_secret,
                    system_now=system_now(),
                )
            return made.id

        done = await context.once("registerWebhook", input, make)
        found = await events.endpoint(context.tx, done.id)
        return RegisterWebhookPayload(
            webhook=Webhook.of(found), secret=secret, replayed=done.replayed
        )

    @strawberry.mutation(extensions=[Effect()])
    async def resend_events(self, info: Info, input: ResendEventsInput) -> ResendEventsPayload:
        """Send events again, under their old ids; receivers know them by that."""
        context = info.context
        if (input.events is None) == (input.failed_since is None):
            raise InvalidInput("events", "either events or failedSince")
        if input.events is not None and not 1 <= len(input.events) <= _RESEND_MOST:
            raise InvalidInput("events", "{least} to {most}", least=1, most=_RESEND_MOST)

        async def make(tx: AsyncConnection) -> str:
            count = await events.resend(
                tx,
                merchant_id=merchant_of(info),
                event_ids=input.events,
                failed_since=input.failed_since,
                endpoint_id=input.webhook,
                system_now=system_now(),
            )
            return str(count)

        done = await context.once("resendEvents", input, make)
        return ResendEventsPayload(count=int(done.id), replayed=done.replayed)


@strawberry.type
class RedemptionUpdate:
    """One state change of a redemption, in order; `redemption` is as it is now."""

    id: strawberry.ID
    sequence: int
    type: str
    state: str | None
    occurred_at: datetime
    redemption_id: strawberry.Private[str]

    @classmethod
    def of(cls, event: model.Event) -> Self:
        return cls(
            id=strawberry.ID(event.id),
            sequence=event.seq,
            type=event.type,
            state=event.data.get("state"),
            occurred_at=event.occurred_at,
            redemption_id=event.object_id,
        )

    @strawberry.field
    async def redemption(self, info: Info) -> Redemption | None:
        found = await info.context.loaders.redemptions.load(self.redemption_id)
        return Redemption.of(found) if found is not None and may_see(info, found) else None


@strawberry.type
class Subscription:
    """What can be followed, over graphql-transport-ws at /graphql."""

    @strawberry.subscription
    async def redemption_updated(
        self, info: Info, id: strawberry.ID, after: int = 0
    ) -> AsyncGenerator[RedemptionUpdate, None]:
        """A member's own redemption, from the change after number `after` to its last one.

        One that is not the member's is as one that does not exist: nothing comes.
        """
        context = info.context
        _require_number(after)
        found = await context.loaders.redemptions.load(id)
        if found is None or not may_see(info, found):
            return
        async with context.reading() as tx:
            newest = await events.newest_of(tx, id)
        if newest <= after and f"redemption.{found.state.lower()}" in model.OVER:
            return
        async with context.services.watcher.object(id, after=after) as following:
            while True:
                await context.end_reads()
                for _, event in await following.take():
                    context.forget()
                    if event.member_id == context.actor.member_id:
                        yield RedemptionUpdate.of(event)
                if event.type in model.OVER and not following.ready:
                    return

    @strawberry.subscription
    async def partner_events(
        self, info: Info, after: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """What concerns the merchant, in order, from the event after a cursor, or from now on."""
        context, merchant_id = info.context, merchant_of(info)
        position = _position(after)
        if position is None:
            async with context.reading() as tx:
                position = await events.head(tx)
        async with context.services.watcher.merchant(merchant_id, after=position) as following:
            while True:
                await context.end_reads()
                for number, event in await following.take():
                    yield Event.of(context, event, number)


def _require_number(after: int) -> None:
    if after < 0:
        raise InvalidInput("after", "0, or the sequence seen last")
