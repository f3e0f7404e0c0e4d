"""A merchant's subgraph, the versions of the one graph, and what may be wrong with either. Pure."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gateway.errors import Refused

OURS = "coalition"
"""Our own subgraph's name; a merchant's is its id."""

ENTITIES = ("Merchant", "Offer", "Redemption")
"""Our types that a merchant may add fields to; each is known by its `id`."""


class SchemaBreaking(Refused):
    code = "SCHEMA_BREAKING"
    when = "a subgraph breaks the API or saved operations, and this was not allowed explicitly"
    zh = "接口变更不兼容:{changes} 处"
    en = "breaking changes: {changes}"
    next_zh = "请改为新增字段,或在确认受影响方后明确允许"
    next_en = "add fields instead, or allow it explicitly once those it hits know"


class CompositionFailed(Refused):
    code = "COMPOSITION_FAILED"
    when = "subgraphs do not compose, or one breaks a rule of publication"
    zh = "子图无法合成"
    en = "the subgraphs do not compose"
    next_zh = "请逐条查看 context.errors,改正后重新发布"
    next_en = "correct each error of context.errors and publish again"


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a merchant's own names begin with; the underscore keeps merchants apart."""

    types: str
    fields: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """A subgraph as it is sent in."""

    merchant_id: str
    url: str
    sdl: str


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A published version of a merchant's subgraph; `number` counts from 1 per merchant."""

    id: str
    merchant_id: str
    number: int
    url: str
    sdl: str
    published_by: str
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the one graph: which subgraphs it has, and what they compose to.

    `ours` is the digest of our own schema it was composed with; a process whose own differs
    composes again. `members` has a merchant's id and its subgraph's, by merchant.
    """

    number: int
    members: Mapping[str, str]
    sdl: str = field(repr=False)
    ours: str = ""
    made_by: str = ""
    made_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """Which version is answered with; None: our own schema alone. `activation` counts changes."""

    number: int | None
    activation: int


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule of publication that a subgraph breaks: at `coordinate`, in Chinese and English."""

    code: str
    coordinate: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A document that a client uses: registered as trusted, or seen in traffic."""

    hash: str
    client_id: str
    text: str = field(repr=False)
    registered: bool = False
    merchant_id: str | None = None
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A saved operation that is not valid any more, and why first."""

    hash: str
    client_id: str
    merchant_id: str | None
    name: str
    error: str


@dataclass(frozen=True, slots=True)
class Impact:
    """What a new version changes for those who use the graph."""

    changes: Sequence[str] = ()
    operations: Sequence[Broken] = ()

    @property
    def breaking(self) -> bool:
        return bool(self.changes or self.operations)

    @property
    def partners(self) -> list[str]:
        """Whose operations break: merchants, or clients that are no merchant's."""
        return sorted({each.merchant_id or each.client_id for each in self.operations})


def prefix_of(slug: str, merchant_id: str) -> Prefix:
    """A merchant's prefix, out of its slug; out of its id if no name can begin with the slug.

    `star-cinema` has `StarCinema_` for types and `starCinema_` for fields.
    """
    for text in (slug, merchant_id):
        parts = re.findall(r"[A-Za-z0-9]+", text if text.isascii() else "")
        name = "".join(part[0].upper() + part[1:] for part in parts)
        if name and name[0].isalpha():
            return Prefix(f"{name}_", f"{name[0].lower()}{name[1:]}_")
    name = f"X{hashlib.sha256(merchant_id.encode()).hexdigest()[:10]}"
    return Prefix(f"{name}_", f"{name.lower()}_")


def digest(sdl: str) -> str:
    """What tells one schema's text from another's."""
    return hashlib.sha256(sdl.encode()).hexdigest()


def document_hash(text: str) -> str:
    """The name of a trusted document: SHA-256 of its text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
