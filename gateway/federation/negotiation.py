"""Which media type a client takes, by the weights of its `Accept` header."""

from dataclasses import dataclass
from typing import Literal

GRAPHQL_JSON = "application/graphql-response+json"
PLAIN_JSON = "application/json"

Stream = Literal["multipart/mixed", "text/event-stream"]
MULTIPART: Stream = "multipart/mixed"
EVENTS: Stream = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Accepted:
    """`answer` is the type of a single answer, `stream` that of a subscription's; None: neither."""

    answer: str | None
    stream: Stream | None


def accepted(header: str) -> Accepted:
    """What a client accepts; one that says nothing is sent application/json."""
    weights = _weights(header)
    if not header.strip(" ,"):
        return Accepted(PLAIN_JSON, None)
    graphql, plain = _weight(weights, GRAPHQL_JSON), _weight(weights, PLAIN_JSON)
    answer: str | None = None
    if graphql or plain:
        named = GRAPHQL_JSON in weights
        answer = GRAPHQL_JSON if graphql > plain or (named and graphql == plain) else PLAIN_JSON
    parts, events = weights.get(MULTIPART, 0.0), weights.get(EVENTS, 0.0)
    stream: Stream | None = None
    if parts or events:
        stream = EVENTS if events > parts else MULTIPART
    return Accepted(answer, stream)


def _weight(weights: dict[str, float], media: str) -> float:
    """The weight of the most specific range that names a type."""
    for name in (media, media.partition("/")[0] + "/*", "*/*"):
        if name in weights:
            return weights[name]
    return 0.0


def _weights(header: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in header.split(","):
        media, *parameters = part.split(";")
        name = media.strip().lower()
        if not name:
            continue
        weight = 1.0
        charset = ""
        for parameter in parameters:
            key, _, value = parameter.strip().lower().partition("=")
            if key.strip() == "q":
                weight = _quality(value.strip())
            elif key.strip() == "charset":
                charset = value.strip().strip('"')
        if charset not in ("", "utf-8", "utf8"):
            continue
        found[name] = max(weight, found.get(name, 0.0))
    return found


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
