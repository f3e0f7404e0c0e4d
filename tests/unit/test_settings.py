"""Settings come from GATEWAY_* and nowhere else."""

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
    ],
)
def test_what_cannot_be_read_stops_the_start_by_name(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=name):
        settings.read({name: value})
