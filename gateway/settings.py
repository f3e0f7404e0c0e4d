"""One frozen Settings object, read from GATEWAY_* at the edges; docs/settings.md is generated."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

HIDDEN = "***"
_SECRETS = ("metrics_token",)
_LAST_PORT = 65_535
_DRIVERS = ("postgresql+asyncpg://", "sqlite+aiosqlite://")
_WORDS = {"mode": ("sandbox", "live"), "log_level": ("DEBUG", "INFO", "WARNING", "ERROR")}
_ABOVE_ZERO = frozenset(
    {
        "database_connections",
        "database_wait_seconds",
        "worker_poll_seconds",
        "feed_poll_seconds",
        "lease_seconds",
        "worker_concurrency",
        "worker_partner_concurrency",
        "partner_timeout_seconds",
        "live_timeout_seconds",
        "partner_concurrency",
        "quote_ttl_seconds",
        "points_hold_ttl_seconds",
        "partner_hold_ttl_seconds",
        "confirm_deadline_seconds",
        "leg_step_points",
        "onboarding_code_hours",
        "access_token_seconds",
        "refresh_token_seconds",
        "login_tries_per_minute",
        "request_head_seconds",
        "request_body_seconds",
        "request_head_bytes",
        "webhook_timeout_seconds",
        "events_poll_seconds",
        "subgraphs_poll_seconds",
        "subgraph_seconds",
        "subscription_init_seconds",
    }
)  # Nothing would work with 0; of the other numbers 0 is the least.


def _setting(default: Any, what: str) -> Any:
    return field(default=default, metadata={"what": what})


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, its default and what it means."""

    home: Path = _setting(Path(".gateway"), "folder of the embedded default: database, keys")
    database_url: str = _setting("", "SQLAlchemy URL; empty: SQLite at <home>/gateway.db")
    database_connections: int = _setting(10, "connections per process; 10 more at a peak")
    database_wait_seconds: float = _setting(
        10.0, "longest wait for a connection or for SQLite's lock; then the answer is 503"
    )
    mode: str = _setting("sandbox", "`sandbox` or `live`; the clock moves only in the sandbox")
    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8000, "port to listen on; 0 takes a free one")
    issuer: str = _setting("", "public base URL; empty: http://<host>:<port>")
    partners_file: str = _setting("", "JSON of partner connections; empty: <home>/partners.json")
    worker_inside: bool = _setting(True, "run the worker inside `gateway serve`")
    worker_poll_seconds: float = _setting(0.5, "pause of an idle worker")
    feed_poll_seconds: float = _setting(60.0, "pause between two readings of partners' feeds")
    lease_seconds: int = _setting(30, "a job not finished by then is given to another worker")
    worker_concurrency: int = _setting(32, "redemptions a worker drives at once; jobs as many")
    worker_partner_concurrency: int = _setting(8, "of these, at most so many at one partner")
    shutdown_grace_seconds: float = _setting(
        20.0, "after SIGTERM: time to finish calls under way; the rest is handed back"
    )
    key_rotation_days: int = _setting(90, "life of a signing key; 0: rotated by hand only")
    partner_timeout_seconds: float = _setting(15.0, "deadline of one call with effect")
    live_timeout_seconds: float = _setting(1.0, "deadline of live prices in a catalog query")
    partner_concurrency: int = _setting(32, "calls in flight per partner (bulkhead)")
    quote_ttl_seconds: int = _setting(300, "longest life of a quote")
    points_hold_ttl_seconds: int = _setting(1_580, "15 min + 20 s + 10 min + 60 s, contracts §5.3")
    partner_hold_ttl_seconds: int = _setting(900, "time asked of a partner's hold")
    confirm_deadline_seconds: int = _setting(60, "time given to a confirm")
    clock_skew_seconds: int = _setting(60, "what clocks may differ by")
    not_found_final_seconds: int = _setting(900, "t_final: then a partner's NOT_FOUND is final")
    confirm_grace_seconds: int = _setting(60, "a success fact is taken this long after a deadline")
    late_confirm_seconds: int = _setting(86_400, "a late confirmation is taken this long")
    review_after_seconds: int = _setting(86_400, "IN_DOUBT for longer becomes NEEDS_REVIEW")
    leg_step_points: int = _setting(10, "points of a leg are a multiple of this, but for the last")
    onboarding_code_hours: int = _setting(72, "life of an onboarding code")
    access_token_seconds: int = _setting(600, "life of an access token")
    vault_key_file: str = _setting(
        "", "key of the keys at rest, mode 0600; empty: <home>/vault.key"
    )
    refresh_token_seconds: int = _setting(2_592_000, "life of a refresh token")
    login_tries_per_minute: int = _setting(5, "per account and per address")
    request_head_seconds: float = _setting(10.0, "a request's head must be complete by then")
    request_body_seconds: float = _setting(20.0, "so must its body, and so long an answer may wait")
    request_head_bytes: int = _setting(32_768, "longest request line with all headers")
    connections: int = _setting(0, "open at once; 0: what the limit of open files allows for")
    connections_per_address: int = _setting(1_024, "0: no limit, as behind a proxy")
    address_requests_per_second: float = _setting(2_000.0, "GraphQL, 10 s at once; 0: no limit")
    client_requests_per_second: float = _setting(1_000.0, "of a merchant's system or one of staff")
    member_requests_per_second: float = _setting(100.0, "of one member, in all apps")
    redeems_per_minute: float = _setting(3_000.0, "mutations of one member that spend points")
    voucher_misses_per_minute: float = _setting(120.0, "unknown codes at one merchant's tills")
    metrics_token: str = _setting("", "bearer token of /metrics; empty: loopback may read it")
    worker_port: int = _setting(0, "health and metrics of `gateway worker`; 0: no listener")
    shutdown_delay_seconds: float = _setting(
        0.0, "time between unready and the end of accepting, for a load balancer to notice"
    )
    otel_endpoint: str = _setting(
        "",
        "OTLP/HTTP URL for spans with its path, as in http://127.0.0.1:4318/v1/traces; "
        "needs coalition-gateway[otel]",
    )
    webhook_timeout_seconds: float = _setting(5.0, "time a merchant has to answer an event")
    events_poll_seconds: float = _setting(0.25, "pause between two looks for subscribers' events")
    subgraphs_poll_seconds: float = _setting(1.0, "pause between two looks for another graph")
    subgraph_seconds: float = _setting(2.0, "time a merchant's subgraph has for one fetch")
    subscription_init_seconds: float = _setting(10.0, "time a socket has to say who it is")
    failpoint: str = _setting("", "sandbox only: kill -9 itself there, as in `confirm:after_call`")
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={text!r}" for name, text in shown(self).items())
        return f"Settings({inside})"

    @property
    def url(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite+aiosqlite:///{self.home / 'gateway.db'}"

    @property
    def database_password(self) -> str:
        """The password in the database's URL, as it is written there."""
        found = re.search(r"://[^:/?#]*:(.*)@", self.database_url)
        return found[1] if found else ""

    @property
    def sandbox(self) -> bool:
        return self.mode == "sandbox"

    @property
    def embedded(self) -> bool:
        """Whether this is the embedded default, which sets itself up on first start."""
        return not self.database_url

    @property
    def base_url(self) -> str:
        """The issuer's URL, without a slash at its end."""
        return self.issuer.rstrip("/") or f"http://{self.host}:{self.port}"

    @property
    def vault_key_path(self) -> Path:
        return Path(self.vault_key_file) if self.vault_key_file else self.home / "vault.key"

    @property
    def partners_path(self) -> Path:
        return Path(self.partners_file) if self.partners_file else self.home / "partners.json"


def read(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read GATEWAY_* once.

    Raises:
        ValueError: A value cannot be read, or a GATEWAY_ name is not known.
    """
    known = {f"GATEWAY_{item.name.upper()}": item for item in fields(Settings)}
    unknown = sorted(name for name in environ if name.startswith("GATEWAY_") and name not in known)
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(unknown)}")
    given: dict[str, Any] = {}
    for name, item in known.items():
        if name in environ:
            try:
                given[item.name] = _parse(environ[name], type(item.default))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    settings = Settings(**given)
    for item in fields(Settings):
        if why := _out_of_range(item.name, getattr(settings, item.name)):
            raise ValueError(f"GATEWAY_{item.name.upper()}: {why}")
    return settings


def _out_of_range(name: str, value: Any) -> str | None:
    """What a value must be, if it is not."""
    if isinstance(value, str):
        wanted = _WORDS.get(name, (value,))
        if name == "database_url":
            wanted = _DRIVERS if value and not value.startswith(_DRIVERS) else (value,)
        return None if value in wanted else " or ".join(wanted)
    if isinstance(value, bool | Path):
        return None
    return _number_out_of_range(name, value)


def _number_out_of_range(name: str, value: float) -> str | None:
    if not math.isfinite(value):
        return "a finite number"
    if name in _ABOVE_ZERO and value <= 0:
        return "above 0"
    if name.endswith("port") and value > _LAST_PORT:
        return f"0 to {_LAST_PORT}"
    return "at least 0" if value < 0 else None


def shown(settings: Settings) -> dict[str, str]:
    """Every setting as text, with a password in the database's URL hidden."""
    texts = {item.name: str(getattr(settings, item.name)) for item in fields(settings)}
    texts |= {name: HIDDEN for name in _SECRETS if texts[name]}
    return {name: _without_password(text) for name, text in texts.items()}


def _without_password(text: str) -> str:
    """A URL without its password, which may hold any sign, and may be an argument too."""
    text = re.sub(r"(://[^:/?#]*):.*@", r"\1:***@", text)
    return re.sub(r"(?i)([?&](?:\w*password|\w*secret|\w*token)=)[^&#]+", r"\1***", text)


def _parse(text: str, kind: type) -> Any:
    if kind is int or kind is float:
        try:
            return kind(text)
        except ValueError as error:
            raise ValueError(f"a {'whole ' if kind is int else ''}number") from error
    if kind is bool:
        if text.lower() not in ("0", "1", "true", "false"):
            raise ValueError("true or false")
        return text.lower() in ("1", "true")
    return kind(text)
