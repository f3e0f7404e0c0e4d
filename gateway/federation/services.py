"""The port of the hop: a service is asked an operation and answers, or fails with a code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from gateway.federation.operation import OperationKind

Headers = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class SubgraphRequest:
    """One operation for one service.

    `variables` hold JSON values (representations among them) and belong to the sender: read only.
    `headers` are those forwarded to this service. `deadline` is on the event loop's clock.
    `state` is the embedder's own, of the client's request.
    """

    service: str
    kind: OperationKind
    text: str
    variables: Mapping[str, Any]
    headers: Headers = ()
    deadline: float | None = None
    state: Any = None
    prefix: bytes = b""
    _body: bytes | None = None

    @property
    def body(self) -> bytes:
        """The request as JSON. `prefix`, where given, is its beginning, up to the variables.

        Raises:
            ServiceFailure: A value is nested too deeply for it, or a number has over 64 bits.
        """
        if self._body is None:
            start = self.prefix or body_prefix(self.text)
            try:
                self._body = (
                    start + orjson.dumps(self.variables) + b"}"
                    if self.variables
                    else (start[: -len(_VARIABLES)] + b"}")
                )
            except TypeError as error:
                raise ServiceFailure("SUBGRAPH_FAILED", "a variable cannot be sent") from error
        return self._body


_MOST_ERRORS = 1_000  # of one answer that are looked at
_VARIABLES = b',"variables":'


def body_prefix(text: str) -> bytes:
    """The body of a request for `text` up to its variables."""
    return b'{"query":' + orjson.dumps(text) + _VARIABLES


@dataclass(slots=True)
class Answer:
    """What a service answered: a GraphQL response. It is shared and never changed.

    `size` is what it was read from, in bytes; 0 for what is our own. `checked` remembers what was
    found, by whom, when the data was looked over.
    """

    data: dict[str, Any] | None
    errors: Sequence[Any] = ()
    size: int = 0
    checked: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, response: object, size: int = 0) -> "Answer":
        """A parsed response body; raises `ServiceFailure` if it is no GraphQL response."""
        if not isinstance(response, dict):
            raise ServiceFailure("SUBGRAPH_MALFORMED", "the answer is no JSON object")
        data = response.get("data")
        errors = response.get("errors")
        if not (data is None or isinstance(data, dict)):
            raise ServiceFailure("SUBGRAPH_MALFORMED", "the answer's data is no object")
        if not (errors is None or isinstance(errors, list)):
            raise ServiceFailure("SUBGRAPH_MALFORMED", "the answer's errors are no list")
        if data is None and not errors:
            raise ServiceFailure("SUBGRAPH_MALFORMED", "the answer has neither data nor errors")
        return cls(data, (errors or ())[:_MOST_ERRORS], size)


class ServiceFailure(Exception):
    """No GraphQL answer came.

    Codes: SUBGRAPH_UNREACHABLE, SUBGRAPH_TIMEOUT, SUBGRAPH_MALFORMED, SUBGRAPH_TOO_LARGE,
    SUBGRAPH_HTTP_ERROR, SUBGRAPH_FAILED. The message is shown to the client.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Service(Protocol):
    """A subgraph that can be asked."""

    async def fetch(self, request: SubgraphRequest) -> Answer:
        """Ask it; raises `ServiceFailure`."""
