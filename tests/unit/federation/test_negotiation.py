"""What a client accepts, by weight."""

import pytest

from gateway.federation.negotiation import EVENTS, GRAPHQL_JSON, MULTIPART, PLAIN_JSON, accepted


@pytest.mark.parametrize(
    ("header", "answer", "stream"),
    [
        ("", PLAIN_JSON, None),
        ("*/*", PLAIN_JSON, None),
        ("application/*", PLAIN_JSON, None),
        ("application/json", PLAIN_JSON, None),
        (GRAPHQL_JSON, GRAPHQL_JSON, None),
        (f"{GRAPHQL_JSON}, application/json", GRAPHQL_JSON, None),
        (f"application/json, {GRAPHQL_JSON}", GRAPHQL_JSON, None),
        (f"{GRAPHQL_JSON};q=0.5, application/json", PLAIN_JSON, None),
        (f"{GRAPHQL_JSON};q=0, application/json;q=0.1", PLAIN_JSON, None),
        (f"{GRAPHQL_JSON};q=0, */*", PLAIN_JSON, None),
        (f"{GRAPHQL_JSON}; charset=utf-8", GRAPHQL_JSON, None),
        (f"{GRAPHQL_JSON}; charset=latin1", None, None),
        ("APPLICATION/JSON ; Q=0.3", PLAIN_JSON, None),
        ("text/html", None, None),
        ("application/json;q=0", None, None),
        ("application/json;q=x", None, None),
        ("text/event-stream", None, EVENTS),
        ('multipart/mixed;boundary="-", application/json', PLAIN_JSON, MULTIPART),
        ("multipart/mixed;q=0.5, text/event-stream", None, EVENTS),
        (", ,", PLAIN_JSON, None),
    ],
)  # fmt: skip
def test_the_heaviest_type_wins(header, answer, stream):
    found = accepted(header)
    assert (found.answer, found.stream) == (answer, stream)
