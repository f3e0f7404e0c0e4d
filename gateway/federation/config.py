"""A router's configuration: a YAML or JSON file, and what the command line says over it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from gateway.federation.documents import Mode


class InvalidConfig(ValueError):
    """The configuration names what there is not, or gives a value of another kind."""


@dataclass(frozen=True, slots=True)
class SubgraphConfig:
    """What is said of one subgraph.

    `url` replaces the supergraph's; `headers` are sent with every request; `events_url` is where
    subscriptions are asked for, `url` by default.
    """

    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    events: Literal["auto", "websocket", "http"] = "auto"
    events_url: str = ""


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds: a whole request, one subgraph's answer, a connection to it, the end."""

    request: float = 60.0
    subgraph: float = 30.0
    connect: float = 5.0
    drain: float = 30.0
    reload: float = 1.0


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What one request may ask; `null` is no limit. The body in bytes."""

    tokens: int = 10_000
    depth: int | None = 50
    aliases: int | None = 200
    directives: int | None = 200
    duplicates: int | None = 100
    fields: int | None = 10_000
    operations: int | None = 100
    introspection: int | None = 10
    cost: int | None = None
    body: int = 1 << 20
    connections: int = 10_000


@dataclass(frozen=True, slots=True)
class TrustedConfig:
    """Trusted documents: how strictly, and the manifest's file."""

    mode: Mode = "off"
    manifest: Path | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a router is told.

    `sharing`: identical reads under way are one. `reuse`: what a subgraph has told of an entity in
    an operation is not asked of it again in the same one.
    `automatic_documents`: clients may register documents by their hash.
    `documents` are remembered, about 0.1 MB each with their plans.
    `entities`: serve `_service` and `_entities`, to be a subgraph.
    `override_labels` are active for all requests. `origins` are the sites whose pages may open a
    WebSocket, besides the router's own.
    """

    supergraph: Path = Path("supergraph.graphql")
    host: str = "127.0.0.1"
    port: int = 4000
    path: str = "/graphql"
    introspection: bool = True
    sharing: bool = True
    reuse: bool = True
    entities: bool = False
    automatic_documents: bool = True
    documents: int = 500
    client_header: str = "graphql-client-name"
    forward_headers: tuple[str, ...] = ()
    override_labels: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    times: Times = field(default_factory=Times)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    trusted: TrustedConfig = field(default_factory=TrustedConfig)
    subgraphs: Mapping[str, SubgraphConfig] = field(default_factory=dict)


def read(path: Path | None, **given: Any) -> Config:
    """The configuration of a file; what is given and not None goes before it.

    Paths in the file are relative to it.

    Raises:
        InvalidConfig: It cannot be read; the message names the place.
    """
    config = Config()
    if path is not None:
        import yaml  # noqa: PLC0415 - only a router with a file needs it

        try:
            written = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InvalidConfig(f"{path}: {error}") from error
        config = _make(Config, written or {}, str(path))
        config = _placed(config, path.parent)
    named = {name: value for name, value in given.items() if value is not None}
    return _whole(dataclasses.replace(config, **named))


def with_trusted(config: Config, manifest: Path | None, mode: str | None) -> Config:
    """The same with another manifest or mode; a manifest alone means mode `only`.

    Raises:
        InvalidConfig: There is no such mode, or no manifest.
    """
    before = config.trusted
    named = mode or ("only" if before.mode == "off" else before.mode)
    if named not in get_args(Mode):
        raise InvalidConfig(f"trusted documents: one of {', '.join(get_args(Mode))} is needed")
    trusted = TrustedConfig(cast(Mode, named), manifest or before.manifest)
    return _whole(dataclasses.replace(config, trusted=trusted))


def _whole(config: Config) -> Config:
    if config.trusted.mode != "off" and config.trusted.manifest is None:
        raise InvalidConfig("trusted documents need a manifest")
    return config


def _placed(config: Config, folder: Path) -> Config:
    trusted = config.trusted
    if trusted.manifest is not None:
        trusted = dataclasses.replace(trusted, manifest=folder / trusted.manifest)
    return dataclasses.replace(config, supergraph=folder / config.supergraph, trusted=trusted)


def _make(kind: Any, written: Any, where: str) -> Any:
    """A dataclass from what was written, with every name and kind checked."""
    if not isinstance(written, dict):
        raise InvalidConfig(f"{where}: names with values are needed")
    hints = get_type_hints(kind)
    known = {one.name for one in dataclasses.fields(kind)}
    values: dict[str, Any] = {}
    for name, value in written.items():
        if name not in known:
            raise InvalidConfig(f"{where}: there is no {name!r}; known: {', '.join(sorted(known))}")
        values[name] = _value(hints[name], value, f"{where}: {name}")
    return kind(**values)


def _value(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _make(kind, value, where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        value = "off" if value is False and "off" in inner else value  # YAML's own `off`.
        if value not in inner:
            raise InvalidConfig(f"{where}: one of {', '.join(inner)} is needed")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise InvalidConfig(f"{where}: a list is needed")
        return tuple(_value(inner[0], one, where) for one in value)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise InvalidConfig(f"{where}: names with values are needed")
        return {str(k): _value(inner[1], v, f"{where}: {k}") for k, v in value.items()}
    if type(None) in inner:
        return None if value is None else _value(inner[0], value, where)
    return _plain(kind, value, where)


def _plain(kind: Any, value: Any, where: str) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is kind:
        return value
    raise InvalidConfig(f"{where}: {kind.__name__} is needed")
