"""Trusted documents: the operations clients were built with, known by the SHA-256 of their text.

A manifest is a JSON object: client's name -> {SHA-256 of the text in hex: text}, `*` for all
clients; or that inner object alone, for all. With mode `only` nothing else is answered, with `log`
it is answered and told. Documents that clients register themselves (automatic persisted queries)
are kept apart, bounded, and never trusted.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gateway.federation.caches import Lru

Mode = Literal["off", "log", "only"]

EVERYBODY = "*"
_REGISTERED = 1_000
_REGISTERED_BYTES = 1 << 20
_HASH = re.compile(r"[0-9a-f]{64}")


class InvalidManifest(ValueError):
    """The manifest is not of its form, or a hash is not its text's."""


class Unknown(Exception):
    """No document of this id: the client may send its text, if texts are taken at all."""


class Untrusted(Exception):
    """Only trusted documents are answered, and this is none of this client's."""


class Mismatch(Exception):
    """The text sent has another hash than the one sent with it."""


def digest(text: str) -> str:
    """The id of a document: SHA-256 of its text as UTF-8, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Trusted:
    """A manifest, and what it is used for."""

    mode: Mode = "off"
    clients: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def find(self, client: str | None, name: str) -> str | None:
        """The text of a client's document by its hash."""
        own = self.clients.get(client or EVERYBODY, {})
        return own.get(name) or self.clients.get(EVERYBODY, {}).get(name)


def manifest(text: str | bytes) -> Mapping[str, Mapping[str, str]]:
    """Read a manifest: client -> hash -> text.

    Raises:
        InvalidManifest: It is none; the message names the first fault.
    """
    try:
        read: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(f"the manifest is no JSON: {error}") from error
    if not isinstance(read, dict):
        raise InvalidManifest("the manifest is no object")
    if all(isinstance(value, str) for value in read.values()):
        read = {EVERYBODY: read}
    for client, documents in read.items():
        if not isinstance(documents, dict):
            raise InvalidManifest(f"{client}: an object of hashes and texts is needed")
        for name, document in documents.items():
            if not isinstance(document, str) or digest(document) != name:
                raise InvalidManifest(f"{client}: {name} is not the SHA-256 of its text")
    found: dict[str, dict[str, str]] = read
    return found


class Documents:
    """Finds the text a request means.

    Args:
        trusted: What is trusted, and how strictly.
        automatic: Take documents that clients register by `persistedQuery`.
    """

    def __init__(self, trusted: Trusted | None = None, *, automatic: bool = True) -> None:
        self.trusted = trusted or Trusted()
        self.strict = self.trusted.mode != "off"  # Every text has to be looked up.
        self._automatic = automatic and self.trusted.mode != "only"
        self._registered: Lru[str, str] = Lru(_REGISTERED, _REGISTERED_BYTES)

    def text(self, client: str | None, query: str | None, name: str | None) -> tuple[str, bool]:
        """The text to answer, and whether it is trusted.

        Args:
            client: Who asks, as far as it is known.
            query: The text sent, if one was.
            name: The hash sent, if one was.

        Raises:
            Unknown, Untrusted, Mismatch
        """
        trusted = self.trusted
        if name is not None:
            name = name.removeprefix("sha256:").lower()
            if not _HASH.fullmatch(name):
                raise Unknown
        if query is None:
            assert name is not None, "a request names its document or brings it"
            found = trusted.find(client, name) if trusted.mode != "off" else None
            if found is not None:
                return found, True
            found = self._registered.get(name) if self._automatic else None
            if found is None:
                raise Unknown
            return found, False
        if trusted.mode == "off" and name is None:
            return query, False
        own = digest(query)
        if name is not None and name != own:
            raise Mismatch
        known = trusted.mode != "off" and trusted.find(client, own) is not None
        if not known and trusted.mode == "only":
            raise Untrusted
        if name is not None and self._automatic and not known:
            self._registered.put(own, query, len(query))
        return query, known
