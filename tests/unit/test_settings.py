"""Settings come from GATEWAY_* and nowhere else."""

from dataclasses import fields
from pathlib import Path

import pytest

from gateway import settings


def test_without_environment_the_embedded_default_runs() -> None:
    read = settings.read({})
    assert read.embedded
    assert read.sandbox
    assert read.url == "sqlite+aiosqlite:///.gateway/gateway.db"
    assert read.partners_path == Path(".gateway/partners.json")
    assert read.base_url == "http://127.0.0.1:8000"


def test_values_are_read_by_their_type() -> None:
    given = {"GATEWAY_PORT": "0", "GATEWAY_WORKER_INSIDE": "false", "GATEWAY_HOME": "x"}
    read = settings.read(given | {"GATEWAY_ISSUER": "https://g.example/", "PATH": "ignored"})
    assert (read.port, read.worker_inside, read.home) == (0, False, Path("x"))
    assert read.base_url == "https://g.example"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_PORT", "eighty"),
        ("GATEWAY_WORKER_INSIDE", "maybe"),
        ("GATEWAY_MODE", "production"),
        ("GATEWAY_PROT", "80"),
        ("GATEWAY_LOG_LEVEL", "LOUD"),
        ("GATEWAY_DATABASE_URL", "postgres://u:p@db/x"),
        ("GATEWAY_PORT", "99999"),
        ("GATEWAY_WORKER_PORT", "-1"),
        ("GATEWAY_LEASE_SECONDS", "0"),
        ("GATEWAY_LEASE_SECONDS", "1.5"),
        ("GATEWAY_PARTNER_TIMEOUT_SECONDS", "-1"),
        ("GATEWAY_WORKER_POLL_SECONDS", "nan"),
        ("GATEWAY_SHUTDOWN_GRACE_SECONDS", "inf"),
        ("GATEWAY_DATABASE_CONNECTIONS", "0"),
    ],
)
def test_what_cannot_be_read_stops_the_start_by_name(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        settings.read({name: value})


def test_every_number_has_a_least_value_and_every_default_is_in_range() -> None:
    assert settings.read({}) == settings.Settings()
    for item in fields(settings.Settings):
        if type(item.default) in (int, float):
            name = f"GATEWAY_{item.name.upper()}"
            with pytest.raises(ValueError, match=name):
                settings.read({name: "-1"})


def test_what_is_above_zero_is_a_setting() -> None:
    assert {item.name for item in fields(settings.Settings)} >= settings._ABOVE_ZERO
