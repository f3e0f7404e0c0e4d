"""A plan is carried out: each fetch starts when its inputs are there, then the data is built.

An `Executable` is made once for a plan and run for every request. What can be known before is
known: which variables a fetch forwards, who waits for whom, and the code that gathers
representations and builds the data.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from graphql import GraphQLSchema, value_from_ast_untyped

from gateway.federation.errors import AnswerTooLarge
from gateway.federation.introspection import Introspection
from gateway.federation.plan import EntityCall, Fetch, Plan
from gateway.federation.projection.careful import CallRecord, Careful, FetchRecord
from gateway.federation.projection.generated import STUMBLES, Entities, generate
from gateway.federation.projection.weighing import MAX_BYTES, weigh
from gateway.federation.services import (
    Answer,
    Headers,
    Service,
    ServiceFailure,
    SubgraphRequest,
    body_prefix,
)
from gateway.federation.sharing import Flight, Flights

_ABSENT: Any = object()
_NO_KEYS: Mapping[Any, Any] = {}
_log = logging.getLogger(__name__)


def _no_headers(service: str) -> Headers:
    return ()


@dataclass(slots=True)
class Caller:
    """For whom a plan is carried out.

    `variables` are the client's JSON values, valid for the operation. `headers` gives what is
    forwarded to a service. Reads are shared among callers of equal `identity`, which must tell
    apart whoever may be answered differently by anything but headers. `deadline` is on the event
    loop's clock: what has not answered by then has failed.
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    headers: Callable[[str], Headers] = _no_headers
    identity: Hashable = None
    deadline: float | None = None
    state: Any = None


@dataclass(slots=True)
class Outcome:
    """`data` is JSON text; `errors` are GraphQL errors, in the order of the plan's fetches."""

    data: bytes
    errors: list[dict[str, Any]]


class _FetchPart:
    """What is known of a fetch before it runs."""

    def __init__(
        self,
        fetch: Fetch,
        ancestors: frozenset[int],
        defaults: Mapping[str, Any],
        first_call: int,
    ) -> None:
        self.fetch = fetch
        self.number = fetch.number
        self.ancestors = ancestors
        self.prefix = body_prefix(fetch.text)
        self.variables = [(name, defaults.get(name, _ABSENT)) for name in fetch.variables]
        self.dependents: list[int] = []
        self.first_call = first_call


class Executable:
    """A plan made ready to run.

    Args:
        plan: What to do.
        schema: The API schema, which decides what the client may see.
        reuse: Whether entities that a fetch has given are left out of later ones.
    """

    def __init__(self, plan: Plan, schema: GraphQLSchema, *, reuse: bool = True) -> None:
        self.plan = plan
        self.kind = plan.operation.kind
        self.introspection = Introspection(schema, plan.operation)
        self.careful = Careful(plan, schema)
        self.generated = generate(plan, schema, reuse=reuse)
        defaults = {
            one.variable.name.value: value_from_ast_untyped(one.default_value)
            for one in plan.operation.variables
            if one.default_value is not None
        }
        self.parts: list[_FetchPart] = []
        self.calls = 0
        for fetch in plan.fetches:
            ancestors = frozenset(fetch.after).union(
                *(self.parts[number].ancestors for number in fetch.after)
            )
            self.parts.append(_FetchPart(fetch, ancestors, defaults, self.calls))
            self.calls += len(fetch.entities)
            for number in fetch.after:
                self.parts[number].dependents.append(fetch.number)
        self.waiting = [len(part.fetch.after) for part in self.parts]
        self.first = [part.number for part in self.parts if not part.fetch.after]


async def run(
    executable: Executable,
    services: Mapping[str, Service],
    caller: Caller,
    flights: Flights,
    first: Answer | None = None,
) -> Outcome:
    """Carry out a plan. `first` is the first fetch's answer, where it has come (an event)."""
    execution = _Execution(executable, services, caller, flights)
    try:
        await execution.carry_out(first)
        return execution.outcome()
    except (AnswerTooLarge, RecursionError):
        error = AnswerTooLarge()
        return Outcome(b"null", [{"message": str(error), "extensions": {"code": error.code}}])
    finally:
        execution.close()


class _Execution:
    """One run of a plan."""

    def __init__(
        self,
        executable: Executable,
        services: Mapping[str, Service],
        caller: Caller,
        flights: Flights,
    ) -> None:
        self.executable = executable
        self.services = services
        self.caller = caller
        self.flights = flights
        self.records = [FetchRecord() for _ in executable.parts]
        self.gathered = _Gathered(executable, self.records)
        self.waiting = executable.waiting.copy()
        self.left = len(executable.parts)
        self.under_way: dict[int, tuple[Flight, Callable[[Any], None]]] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.timer: asyncio.TimerHandle | None = None

    async def carry_out(self, first: Answer | None) -> None:
        """Run every fetch; returns when the last has ended, one way or another."""
        if self.caller.deadline is not None:
            loop = asyncio.get_running_loop()
            self.timer = loop.call_at(self.caller.deadline, self.expire)
        ready = self.executable.first.copy()
        if first is not None:
            self.records[0].answer = first
            self.gathered.take(self.executable.parts[0], first)
            ready[0:1] = self.ended(0)
        self.start(ready)
        if self.left:
            await self.done

    def close(self) -> None:
        """Leave what is still under way."""
        if self.timer is not None:
            self.timer.cancel()
        for flight, told in self.under_way.values():
            flight.task.remove_done_callback(told)
            flight.leave()
        self.under_way.clear()

    def start(self, ready: list[int]) -> None:
        """Start fetches, and those that follow from fetches with nothing to ask."""
        while ready:
            number = ready.pop()
            if not self.send(number):
                ready += self.ended(number)

    def ended(self, number: int) -> list[int]:
        """Note that a fetch has ended; returns the fetches that waited for it alone."""
        self.left -= 1
        if self.left == 0 and not self.done.done():
            self.done.set_result(None)
        ready = []
        for other in self.executable.parts[number].dependents:
            self.waiting[other] -= 1
            if not self.waiting[other]:
                ready.append(other)
        return ready

    def send(self, number: int) -> bool:
        """Send a fetch; False if there is nothing to ask."""
        part = self.executable.parts[number]
        fetch = part.fetch
        given = self.caller.variables
        named = {name: given.get(name, default) for name, default in part.variables}
        variables = {name: value for name, value in named.items() if value is not _ABSENT}
        if fetch.entities:
            calls = self.records[number].calls = self.gathered.collect(part)
            if not any(call.sent for call in calls):
                self.gathered.take(part, None)
                return False
            for call, made in zip(fetch.entities, calls, strict=True):
                if call.alias is not None:
                    variables[call.variable] = made.sent
        service = self.services.get(fetch.service)
        if service is None:
            failure = ServiceFailure("SUBGRAPH_UNREACHABLE", "the service is not known")
            self.records[number].fail(failure)
            return False
        request = SubgraphRequest(
            fetch.service,
            fetch.kind,
            fetch.text,
            variables,
            self.caller.headers(fetch.service),
            self.caller.deadline,
            self.caller.state,
            part.prefix,
        )
        try:
            flight = self.flights.send(service, request, self.caller.identity)
        except ServiceFailure as failure:
            self.records[number].fail(failure)
            return False

        def told(task: asyncio.Task[Answer]) -> None:
            if self.under_way.pop(number, None) is not None:  # Else nobody waits for it any more.
                self.answered(number, task)

        self.under_way[number] = (flight, told)
        flight.task.add_done_callback(told)
        return True

    def answered(self, number: int, task: asyncio.Task[Answer]) -> None:
        """Take a service's answer, and start what waited for it."""
        try:
            self.receive(number, task)
            self.start(self.ended(number))
        except BaseException as error:
            # Nobody else would hear of it: this is a callback.
            if not self.done.done():
                self.done.set_exception(error)

    def receive(self, number: int, task: asyncio.Task[Answer]) -> None:
        """Note a service's answer or failure."""
        record, part = self.records[number], self.executable.parts[number]
        try:
            answer = task.result()
            for call, made in zip(part.fetch.entities, record.calls, strict=True):
                made.entities = _entities(answer, call, len(made.sent))
        except ServiceFailure as failure:
            record.fail(failure)
        except asyncio.CancelledError:
            record.fail(ServiceFailure("SUBGRAPH_FAILED", "the request was cancelled"))
        except Exception:
            _log.exception("a service failed in an unforeseen way")
            record.fail(ServiceFailure("SUBGRAPH_FAILED", "the request failed"))
        else:
            record.answer = answer
            self.gathered.take(part, answer)

    def expire(self) -> None:
        """The deadline: what is under way has failed, what follows is not begun."""
        for number in list(self.under_way):
            self.records[number].fail(ServiceFailure("SUBGRAPH_TIMEOUT", "no answer in time"))
        self.left = 0
        if not self.done.done():
            self.done.set_result(None)

    def outcome(self) -> Outcome:
        """The data and the errors."""
        local = self.executable.introspection.answer(self.caller.variables)
        data = self.gathered.join(local)
        if data is not None:
            return Outcome(_text(data), [])
        data, errors = self.executable.careful.finish(self.records, local)
        weigh(data)
        return Outcome(_text(data), errors)


class _Gathered:
    """Answers as generated code reads them; by the careful way where that code does not do.

    `clean` holds until anything is wrong with an answer: then the careful way builds the data.
    `quick` holds until generated code stumbles: then the careful way gathers representations, too.
    """

    def __init__(self, executable: Executable, records: list[FetchRecord]) -> None:
        self.executable = executable
        self.records = records
        self.generated = executable.generated
        self.quick = self.clean = self.generated is not None
        if self.generated is not None:
            self.data: list[Mapping[str, Any]] = self.generated.blank_roots.copy()
            self.entities: list[Entities] = self.generated.nothing.copy()
            self.lists: list[Sequence[dict[str, Any]]] = [()] * len(self.entities)
            self.keys: list[Mapping[Any, Any]] = [_NO_KEYS] * len(self.entities)
            self.reused: dict[int, Entities] = {}

    def collect(self, part: _FetchPart) -> list[CallRecord]:
        """The representations of each of a fetch's calls."""
        if self.quick and self.generated is not None:
            try:
                first = part.first_call
                return [self.draw(first + offset) for offset in range(len(part.fetch.entities))]
            except STUMBLES:
                self.quick = self.clean = False
        found = self.executable.careful.collect(part.fetch, self.records, part.ancestors)
        return [CallRecord(one) for one in found]

    def draw(self, index: int) -> CallRecord:
        """A call's representations; those whose entities are known are not sent."""
        generated = self.generated
        assert generated is not None
        made = generated.collect(index, self.data, self.entities, self.lists)
        self.keys[index] = made
        if made and generated.sites(index):
            known = generated.known(index, self.data, self.entities, self.lists, self.usable)
            hits = {key: known[key] for key in made if key in known}
            if hits:
                self.reused[index] = hits
                reused = [(made.pop(key), entity) for key, entity in hits.items()]
                return CallRecord(list(made.values()), (), reused)
        return CallRecord(list(made.values()))

    def usable(self, number: int) -> bool:
        """Whether a fetch has answered without errors."""
        answer = self.records[number].answer
        return isinstance(answer, Answer) and not answer.errors

    def take(self, part: _FetchPart, answer: Answer | None) -> None:
        """Take an answer, or that nothing had to be asked, in for what follows."""
        generated = self.generated
        if not self.quick or generated is None:
            return
        if answer is None:
            whole = [True] * len(part.fetch.entities)
        else:
            holds, whole = self.looked_over(part, answer)
            self.clean = self.clean and holds and not answer.errors
        if not part.fetch.entities:
            if answer is not None and answer.data is not None:
                self.data[part.number] = answer.data
            return
        index = part.first_call
        for made, complete in zip(self.records[part.number].calls, whole, strict=True):
            blank = generated.blanks[index]
            given = made.entities
            entities = dict(zip(self.keys[index], given, strict=False))
            if not complete:
                entities = {key: blank if one is None else one for key, one in entities.items()}
                given = [one for one in given if one is not None]
            entities[None] = blank
            hits = self.reused.get(index)
            if hits is not None:
                entities.update(hits)
                given = [*given, *hits.values()]
                self.clean = self.clean and generated.entities_hold(index, [*hits.values()])
            self.entities[index] = entities
            self.lists[index] = given
            index += 1

    def looked_over(self, part: _FetchPart, answer: Answer) -> tuple[bool, list[bool]]:
        """Whether an answer is as the schema says, and which calls got no null entity.

        It is looked over once, however many operations share it.
        """
        generated = self.generated
        assert generated is not None
        known: tuple[bool, list[bool]] | None = answer.checked.get((generated, part.number))
        if known is not None:
            return known
        if not part.fetch.entities:
            data = answer.data
            known = (data is not None and generated.root_holds(part.number, data), [])
        else:
            lists = [made.entities for made in self.records[part.number].calls]
            known = (
                all(
                    generated.entities_hold(part.first_call + offset, entities)
                    for offset, entities in enumerate(lists)
                ),
                [None not in entities for entities in lists],
            )
        answer.checked[generated, part.number] = known
        return known

    def join(self, local: Mapping[str, Any]) -> dict[str, Any] | None:
        """The client's data, if all went well."""
        if not self.clean or self.generated is None:
            return None
        if any(isinstance(one.answer, ServiceFailure) for one in self.records):
            return None
        try:
            data, count = self.generated.join(self.data, self.entities, local)
        except STUMBLES:
            return None
        bytes_read = sum(one.answer.size for one in self.records if isinstance(one.answer, Answer))
        if (count + 1) * bytes_read > MAX_BYTES:  # It may be too large; most often it is not.
            weigh(data)
        return data


def _text(data: Any) -> bytes:
    """Data as JSON; raises AnswerTooLarge where it is nested more deeply than is written."""
    try:
        return orjson.dumps(data)
    except TypeError as error:
        raise AnswerTooLarge from error


def _entities(answer: Answer, call: EntityCall, count: int) -> list[Any]:
    """The entities of a call, as many as were asked for."""
    if call.alias is None:
        return [answer.data]
    found = None if answer.data is None else answer.data.get(call.alias)
    if found is None:
        if not answer.errors:
            raise ServiceFailure("SUBGRAPH_MALFORMED", "the answer has no entities")
        return [None] * count
    if not isinstance(found, list) or len(found) != count:
        raise ServiceFailure("SUBGRAPH_MALFORMED", "the answer has another number of entities")
    return found
