"""Logs are JSON, carry the request, and never hold a secret."""

import io
import json
import logging
from typing import Any

import pytest

from gateway import telemetry

CANARY = "canary-4f1d9a77c2"
JWT = f"eyJhbGciOiJFZERTQSJ9.{CANARY}.c2ln"


@pytest.fixture
def lines() -> io.StringIO:
    """What is logged."""
    stream = io.StringIO()
    telemetry.configure("DEBUG", stream=stream)
    return stream


def _events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_and_carries_its_request(lines: io.StringIO) -> None:
    with telemetry.request(merchant="M05") as request_id:
        assert telemetry.request_id() == request_id
        telemetry.log("gateway.test").info("held", points=4500, name="星汇影城")
    assert telemetry.request_id() is None
    (event,) = _events(lines)
    assert request_id.startswith("req_")
    assert event | {"timestamp": ""} == {
        "event": "held",
        "points": 4500,
        "name": "星汇影城",
        "merchant": "M05",
        "request_id": request_id,
        "level": "info",
        "logger": "gateway.test",
        "timestamp": "",
    }
    assert "星汇影城" in lines.getvalue()


@pytest.mark.parametrize(
    "context",
    [
        {"access_token": CANARY},
        {"Authorization": f"Bearer {CANARY}"},
        {"headers": {"authorization": CANARY, "x-trace": "1"}},
        {"form": {"client_assertion": CANARY, "grant_type": "client_credentials"}},
        {"client_secret": CANARY},
        {"clientSecret": CANARY},
        {"code_verifier": CANARY},
        {"rows": [{"password": CANARY}, {"refreshToken": CANARY}]},
        {"body": f"grant_type=x&client_secret={CANARY}&scope=y"},
        {"body": f'{{"access_token": "{CANARY}"}}'},
        {"body": f"code_verifier={CANARY}".encode()},
        {"header": f"bearer {CANARY}"},
        {"note": f"sent {JWT} to the partner"},
        {"note": f"whsec_{CANARY}"},
        {"pem": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----"},
        {"error": ValueError(f"token={CANARY}")},
    ],
)
def test_a_secret_is_hidden_by_its_name_and_by_its_shape(
    lines: io.StringIO, context: dict[str, object]
) -> None:
    telemetry.log("t").info("sent", **context)
    assert CANARY not in lines.getvalue()
    assert telemetry.HIDDEN in lines.getvalue()


def test_a_secret_is_hidden_in_messages_and_tracebacks(lines: io.StringIO) -> None:
    try:
        raise RuntimeError(f"refused: Authorization: Bearer {CANARY}")
    except RuntimeError:
        telemetry.log("t").exception("it broke with Bearer %s", CANARY)
    logging.getLogger("uvicorn.error").warning("GET /x?access_token=%s", CANARY)
    first, second = _events(lines)
    assert "RuntimeError" in first["exception"]
    assert second["logger"] == "uvicorn.error"
    assert CANARY not in lines.getvalue()


def test_what_is_no_secret_stays(lines: io.StringIO) -> None:
    context = {
        "token_url": "http://127.0.0.1:1/oauth/token",
        "code": "SOLD_OUT",
        "op_key": "red_1:confirm:1",
        "points": 30,
        "missing": None,
        "text": "the token has expired",
    }
    telemetry.log("t").info("kept", **context)
    (event,) = _events(lines)
    assert {name: event[name] for name in context} == context
