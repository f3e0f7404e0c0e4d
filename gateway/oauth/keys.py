"""The server's own keys: sealed at rest, rotated without a gap, found by kid in memory."""

import base64
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc.jwk import ECKey
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Database, lock_exclusive
from gateway.oauth import jose, store
from gateway.oauth.shared import SharedReading

_ROTATION = 0x0A07  # Advisory lock: one process makes or rotates keys at a time.
_MARGIN = timedelta(minutes=2)  # A process may sign with a key that was just retired.
_STALE = 60.0  # Seconds after which the cache is read again, so that retired keys go.


class Vault:
    """Seals what is secret at rest, and derives secrets of their own for other rooms.

    Args:
        master: 32 random bytes that are not in the database.
    """

    def __init__(self, master: bytes) -> None:
        assert len(master) == 32
        self._master = master
        self._box = AESGCM(self.derive("seal"))

    @classmethod
    def open(cls, path: Path) -> "Vault":
        """Read the key file; make it, mode 0600, on first use.

        Raises:
            ValueError: Others can read it, or it holds no 32 bytes in base64.
        """
        if not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            raise ValueError(f"{path.name}: its mode must be 0600")
        try:
            master = base64.b64decode(path.read_text().strip(), validate=True)
        except ValueError:
            master = b""
        if len(master) != 32:
            raise ValueError(f"{path.name}: 32 bytes in base64 expected")
        return cls(master)

    def seal(self, plain: bytes, *, name: str) -> str:
        """Encrypt; it opens under the same name only."""
        nonce = secrets.token_bytes(12)
        return base64.b64encode(nonce + self._box.encrypt(nonce, plain, name.encode())).decode()

    def unseal(self, sealed: str, *, name: str) -> bytes:
        data = base64.b64decode(sealed)
        return self._box.decrypt(data[:12], data[12:], name.encode())

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose (quotes, pseudonyms of a merchant), the same at every start."""
        return HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(self._master)

    def __repr__(self) -> str:
        return "Vault(…)"


def _make(path: Path) -> None:
    """Write a new key under another name and link it, so that nobody sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(32)))
            file.flush()
            os.fsync(file.fileno())
        if not path.exists():
            _link(part, path)
    finally:
        part.unlink()


def _link(part: Path, path: Path) -> None:
    try:
        path.hardlink_to(part)
    except FileExistsError:
        return  # Another process was first: its key is the key.


@dataclass(frozen=True, slots=True)
class _Known:
    key: jose.PublicKey
    jwk: Mapping[str, Any]
    until: datetime | None  # None while it signs or is to sign


class KeyRing:
    """The server's signing keys. Public parts are cached; an unknown kid asks the database once
    in `patience` seconds, so that made-up kids cost nothing.

    Args:
        token_seconds: Life of an access token: a retired key verifies that much longer.
    """

    def __init__(
        self, database: Database, vault: Vault, *, token_seconds: int, patience: float = 5.0
    ) -> None:
        self._database = database
        self._vault = vault
        self._life = timedelta(seconds=token_seconds) + _MARGIN
        self._patience = patience
        self._private: dict[str, ECKey] = {}
        self._shared = SharedReading(self._read, dict[str, _Known]())

    async def load(self) -> None:
        """Read the public keys."""
        await self._shared.of(seconds=0)

    @property
    def _known(self) -> Mapping[str, _Known]:
        return self._shared.value

    async def _read(self) -> dict[str, _Known]:
        async with self._database.reading() as tx:
            rows = list(await tx.execute(sa.select(store.signing_keys)))
        known = self._known
        return {
            row.kid: _Known(
                known[row.kid].key if row.kid in known else jose.load(row.jwk),
                row.jwk,
                row.retired_at and row.retired_at + self._life,
            )
            for row in rows
        }

    async def find(self, kid: object, *, now: datetime) -> jose.PublicKey | None:
        """The key that verifies tokens with this kid, if there is one still."""
        if not isinstance(kid, str):
            return None
        believed = _STALE if kid in self._known else self._patience
        await self._shared.of(seconds=believed)
        return self.cached(kid, now=now)

    def cached(self, kid: str, *, now: datetime) -> jose.PublicKey | None:
        known = self._known.get(kid)
        if known is None or (known.until is not None and known.until <= now):
            return None
        return known.key

    async def public(self, *, now: datetime) -> list[Mapping[str, Any]]:
        """The JWKS: next, active, and retired ones until their last token has expired."""
        await self.load()
        lasting = (
            known for known in self._known.values() if known.until is None or known.until > now
        )
        return sorted((known.jwk for known in lasting), key=lambda jwk: str(jwk["kid"]))

    def active(self, tx: sa.Connection) -> ECKey:
        """The one key that signs now, as the database says."""
        row = tx.execute(
            sa.select(store.signing_keys.c.kid, store.signing_keys.c.sealed).where(
                store.signing_keys.c.state == "ACTIVE"
            )
        ).one()
        if row.kid not in self._private:
            plain = self._vault.unseal(row.sealed, name=row.kid)
            key = jose.load(json.loads(plain))
            assert isinstance(key, ECKey)
            self._private = {row.kid: key}
        return self._private[row.kid]


async def ensure(tx: AsyncConnection, vault: Vault, *, now: datetime) -> None:
    """Make the active and the next key where they are missing."""
    await lock_exclusive(tx, _ROTATION)
    states = set(await tx.scalars(sa.select(store.signing_keys.c.state)))
    for state in ("ACTIVE", "NEXT"):
        if state not in states:
            await _add(tx, vault, state, now=now)


async def rotate(tx: AsyncConnection, vault: Vault, *, token_seconds: int, now: datetime) -> None:
    """Retire the active key, sign with the next one, and publish another next one.

    Tokens signed before keep working until they expire. Verifiers that read the JWKS know the
    next key before it signs: rotate no faster than they read it.
    """
    await lock_exclusive(tx, _ROTATION)
    state, kid = store.signing_keys.c.state, store.signing_keys.c.kid
    gone = now - timedelta(seconds=token_seconds) - _MARGIN
    await tx.execute(sa.delete(store.signing_keys).where(store.signing_keys.c.retired_at <= gone))
    retire = sa.update(store.signing_keys).where(state == "ACTIVE")
    await tx.execute(retire.values(state="RETIRED", retired_at=now))
    successor = await tx.scalar(sa.select(kid).where(state == "NEXT"))
    promote = sa.update(store.signing_keys).where(kid == successor)
    await tx.execute(promote.values(state="ACTIVE"))
    await ensure(tx, vault, now=now)


async def rotate_older(
    tx: AsyncConnection, vault: Vault, *, life: timedelta, token_seconds: int, now: datetime
) -> bool:
    """Rotate if the last rotation, which made the next key, is a life ago; however many ask."""
    await lock_exclusive(tx, _ROTATION)
    made = sa.select(store.signing_keys.c.created_at).where(store.signing_keys.c.state == "NEXT")
    last = await tx.scalar(made)
    if last is None or last + life > now:
        return False
    await rotate(tx, vault, token_seconds=token_seconds, now=now)
    return True


async def _add(tx: AsyncConnection, vault: Vault, state: str, *, now: datetime) -> None:
    key = jose.new_key()
    assert key.kid
    plain = json.dumps(key.as_dict(private=True)).encode()
    row = {"kid": key.kid, "state": state, "created_at": now}
    row |= {"jwk": key.as_dict(private=False), "sealed": vault.seal(plain, name=key.kid)}
    await tx.execute(sa.insert(store.signing_keys).values(row))
