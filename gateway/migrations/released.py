"""Revisions that are released, with the SHA-256 of their files: they never change again."""

from collections.abc import Mapping

RELEASED: Mapping[str, str] = {
    "0001": "78042b7c6dc98f23dfbbd5d8ac925a2a07d76edbcc4a743a1b7649b657ba9bdc",
}
