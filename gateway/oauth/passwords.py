"""Passwords as scrypt hashes, computed off the event loop and never in a transaction."""

import asyncio
import base64
import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor

_LOG_N, _R, _P = 14, 8, 5  # 16 MiB, five passes. Source: OWASP password storage cheat sheet.
_NOBODY = f"scrypt${_LOG_N}${_R}${_P}$AAAAAAAAAAAAAAAAAAAAAA==${'A' * 43}="
_threads = ThreadPoolExecutor(2, "scrypt")  # A flood of logins must not take all threads.


async def hashed(password: str, *, log_n: int = _LOG_N, p: int = _P) -> str:
    """A new hash of a password, with its parameters and salt.

    Args:
        log_n: Less than the default only for a random password that cannot be guessed.
        p: As `log_n`.
    """
    salt = secrets.token_bytes(16)
    digest = await _off_loop(password, salt, log_n, _R, p)
    return "$".join(["scrypt", str(log_n), str(_R), str(p), _text(salt), _text(digest)])


async def verify(password: str, stored: str | None) -> bool:
    """Whether a password fits; a missing hash takes as long to refuse as a wrong password."""
    _, log_n, r, p, salt, digest = (stored or _NOBODY).split("$")
    numbers = int(log_n), int(r), int(p)
    given = await _off_loop(password, base64.b64decode(salt), *numbers)
    return secrets.compare_digest(given, base64.b64decode(digest)) and stored is not None


async def _off_loop(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, _scrypt, password, salt, log_n, r, p)


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    memory = 256 * r * (1 << log_n)
    return hashlib.scrypt(
        password.encode(), salt=salt, n=1 << log_n, r=r, p=p, maxmem=memory, dklen=32
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
