"""What an engine is asked and what it answers; what it refuses before anything runs."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from graphql import GraphQLError

Stage = Literal["request", "document", "parse", "validation", "operation", "limits", "coercion"]

CODES: Mapping[Stage, str] = {
    "request": "BAD_REQUEST",
    "document": "PERSISTED_QUERY_NOT_FOUND",
    "parse": "GRAPHQL_PARSE_FAILED",
    "validation": "GRAPHQL_VALIDATION_FAILED",
    "operation": "OPERATION_RESOLUTION_FAILURE",
    "limits": "QUERY_TOO_EXPENSIVE",
    "coercion": "BAD_USER_INPUT",
}

Error = dict[str, Any]


@dataclass(slots=True)
class Request:
    """One operation asked for.

    `variables` are the client's JSON values; nothing here changes them. `document` is the hash of
    a trusted or registered document, in place of `query` or beside it. `headers` go to subgraphs
    as they are, lower case; `state` is the embedder's own and reaches its services. Requests of
    different `identity` never share a read. With `read_only` mutations are refused.
    """

    query: str | None
    variables: Mapping[str, Any] = field(default_factory=dict)
    operation_name: str | None = None
    document: str | None = None
    client: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    state: Any = None
    identity: Hashable = None
    read_only: bool = False


class RequestError(Exception):
    """A request that is answered with errors and without `data`: nothing has run.

    `status` is for HTTP under application/graphql-response+json; `hard` keeps it under
    application/json, too.
    """

    def __init__(
        self, stage: Stage, errors: Sequence[Error], status: int = 400, *, hard: bool = False
    ) -> None:
        self.stage = stage
        self.errors = tuple(errors)
        self.status = status
        self.hard = hard
        super().__init__(str(self.errors[0]["message"]))

    def result(self) -> "Result":
        return Result(None, self.errors, self.stage, self.status, self.hard)


@dataclass(slots=True)
class Result:
    """An answer.

    `data` is JSON text; None: there is no such key, since the request was refused at `stage`.
    """

    data: bytes | None
    errors: Sequence[Error] = ()
    stage: Stage | None = None
    status: int = 200
    hard: bool = False

    def body(self, extensions: Mapping[str, Any] | None = None) -> bytes:
        """The response as JSON; errors come first, as they would be overlooked after the data."""
        if not self.errors and not extensions and self.data is not None:
            return b'{"data":' + self.data + b"}"
        parts: list[bytes] = []
        if self.errors:
            parts.append(b'"errors":' + _text(self.errors))
        if self.data is not None:
            parts.append(b'"data":' + self.data)
        if extensions:
            parts.append(b'"extensions":' + orjson.dumps(extensions))
        return b"{" + b",".join(parts) + b"}"


def _text(errors: Sequence[Error]) -> bytes:
    """Errors as JSON; without what services say beside, where that cannot be written."""
    try:
        return orjson.dumps(errors)
    except TypeError:
        return orjson.dumps([{**one, "extensions": _plain(one)} for one in errors])


def _plain(error: Error) -> dict[str, str]:
    told = error.get("extensions") or {}
    return {key: told[key] for key in ("code", "service") if isinstance(told.get(key), str)}


def refuse(
    stage: Stage, message: str, *, code: str | None = None, status: int = 400
) -> RequestError:
    """The error of a request that fails at one stage with one message."""
    error = {"message": message, "extensions": {"code": code or CODES[stage]}}
    return RequestError(stage, [error], status, hard=stage == "request")


def refuse_all(stage: Stage, errors: Iterable[GraphQLError]) -> RequestError:
    """graphql-core's errors, with where they are in the document."""
    shown: list[Error] = []
    for error in errors:
        one: Error = {"message": error.message}
        if error.locations:
            one["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
        one["extensions"] = {"code": CODES[stage]}
        shown.append(one)
    return RequestError(stage, shown)


Labels = Callable[[Request], frozenset[str]]
"""Which progressive overrides are active for a request."""
