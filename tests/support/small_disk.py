"""A disk of its own for a test: small, really full when it is told to be, and free again."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MNT_DETACH = 2  # What is still open there does not keep it.
_CHUNKS = (1 << 20, 1 << 12, 1)


@dataclass(frozen=True)
class Disk:
    """A mounted file system in memory."""

    path: Path

    def fill(self) -> None:
        """Leave no byte."""
        with (self.path / "ballast").open("ab", buffering=0) as ballast:
            for size in _CHUNKS:
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(b"\0" * size)
        assert self.left == 0

    def free(self) -> None:
        """Give the space back."""
        (self.path / "ballast").unlink(missing_ok=True)

    @property
    def left(self) -> int:
        """Bytes that can be written."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """No byte can be written inside."""
        self.fill()
        try:
            yield
        finally:
            self.free()


@contextlib.contextmanager
def mounted(path: Path, *, megabytes: int) -> Iterator[Disk]:
    """A disk of so many megabytes at this folder.

    Raises:
        OSError: This process may mount nothing.
    """
    system = ctypes.CDLL(None, use_errno=True)
    where, options = os.fsencode(path), f"size={megabytes}m,mode=755".encode()
    if system.mount(b"tmpfs", where, b"tmpfs", 0, options) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        yield Disk(path)
    finally:
        system.umount2(where, _MNT_DETACH)
