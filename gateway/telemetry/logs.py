"""JSON logs with the request's id and context, and never a secret.

One line an event, on standard error. What the standard library logs goes the same way. A value
is hidden by its name (`access_token`, `Authorization`, `client_secret`, …) or by its shape (a
bearer header, a JWT, a signing secret, a secret in a form or URL), at any depth and in tracebacks.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any, TextIO

import structlog

from gateway.telemetry import tracing
from gateway.values import new_id

HIDDEN = "[hidden]"

_SECRET_WORDS = frozenset(
    {"assertion", "authorization", "cookie", "password", "secret", "secrets", "token", "tokens"}
)
_SECRET_NAMES = frozenset(
    {"codeverifier", "clientassertion", "privatekey", "proxyauthorization", "setcookie"}
)
_OPEN_NAMES = frozenset({"token_type", "token_url", "token_endpoint"})
_SECRET_SHAPES = (
    re.compile(r"(?i)\b(?:bearer|basic|dpop)\s+[\w.~+/=-]{8,}"),
    re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"),
    re.compile(r"\bwhsec_[\w+/=-]+"),
    re.compile(r"\bonb_[\w-]{8,}"),
    re.compile(r"(?<=[?&]code=)[^&\s\"']+"),
    re.compile(r"(?<=\)=\()[^)\n]*(?=\))"),  # PostgreSQL's DETAIL: Key (column)=(a person's).
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL
    ),
)
# Libraries that tell at DEBUG what they carry: SQL with its values, headers, frames, forms.
_TALKATIVE = (
    "aiosqlite",
    "alembic",
    "authlib",
    "httpcore2",
    "httpx2",
    "multipart",
    "python_multipart",
    "sqlalchemy",
    "uvicorn.access",
    "websockets",
)
_SECRET_PAIRS = re.compile(
    r"""(?ix) \b ( (?:access_|refresh_|id_)? token | client_secret | client_assertion | assertion
    | code_verifier | password ) (["']? \s* [=:] \s* ["']?) [^\s"'&,;}]+"""
)


_values: set[str] = set()
_known: re.Pattern[str] | None = None


def conceal(values: Iterable[str]) -> None:
    """Hide these very texts from now on, whatever stands around them.

    For secrets that have no shape of their own and live as long as the process: a partner's
    client secret, a password of the database. What is shorter than 6 signs would hide words.
    """
    global _known  # noqa: PLW0603  # One process, one log.
    _values.update(value for value in values if len(value) >= 6)
    if _values:
        longest_first = sorted(_values, key=len, reverse=True)
        _known = re.compile("|".join(re.escape(value) for value in longest_first))


def configure(level: str = "INFO", *, stream: TextIO | None = None) -> None:
    """Send every log line of this process, the libraries' too, to `stream` as JSON.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        stream: Standard error by default.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _traced,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact,
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream) if stream else _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    logging.getLogger("uvicorn.error").setLevel(max(root.level, logging.INFO))


def log_uncaught() -> None:
    """Have what ends the process logged as everything else is, and not printed as it is."""
    sys.excepthook = uncaught


def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An excepthook."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger(__name__).critical("uncaught", exc_info=(kind, error, trace))


def log(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: `log(__name__).info("event", redemption=…)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


@contextlib.contextmanager
def request(request_id: str | None = None, **context: object) -> Iterator[str]:
    """Give all log lines within it one request id, and more context.

    Args:
        request_id: By default that of the request this runs in, else a new `req_…`.

    Returns:
        The request id, as shown with INTERNAL.
    """
    chosen = request_id or _current_id() or new_id("req")
    with structlog.contextvars.bound_contextvars(request_id=chosen, **context):
        yield chosen


def request_id() -> str | None:
    """The id of the request this runs in; None outside of one."""
    return _current_id()


def _current_id() -> str | None:
    found: str | None = structlog.contextvars.get_contextvars().get("request_id")
    return found


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Hide every secret of a log event: a structlog processor."""
    return {name: _hidden_by_name(name, value) for name, value in event.items()}


def hide(text: str) -> str:
    """A text without what looks like a secret."""
    if _known is not None:
        text = _known.sub(HIDDEN, text)
    for shape in _SECRET_SHAPES:
        text = shape.sub(HIDDEN, text)
    return _SECRET_PAIRS.sub(rf"\1\2{HIDDEN}", text)


def _traced(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Name the trace a line belongs to."""
    if here := tracing.current():
        event["trace_id"], event["span_id"] = here.trace_id, here.span_id
    return event


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what standard error is when it writes."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _hidden_by_name(name: object, value: object) -> object:
    if isinstance(name, str) and value is not None and _is_secret(name):
        return HIDDEN
    return _hidden(value)


def _hidden(value: object) -> object:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, bytes):
        return hide(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {str(name): _hidden_by_name(name, item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_hidden(item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return hide(str(value))


def _is_secret(name: str) -> bool:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower().replace("-", "_")
    if words in _OPEN_NAMES:
        return False
    return words.replace("_", "") in _SECRET_NAMES or not _SECRET_WORDS.isdisjoint(words.split("_"))
