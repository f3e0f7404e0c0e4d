"""Bounded memory of what was computed before."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """The entries used last: at most `entries`, and together no heavier than `weight`.

    What alone is heavier than a quarter of `weight` is not kept.
    """

    def __init__(self, entries: int, weight: int = 0) -> None:
        self._entries = entries
        self._weight = weight
        self._heaviest = weight // 4 if weight else 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.weight = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, weight: int = 0) -> None:
        """Keep a value, in the place of the one kept for the key, and forget what is oldest."""
        if self._weight and weight > self._heaviest:
            return
        before = self._kept.pop(key, None)
        if before is not None:
            self.weight -= before[1]
        self._kept[key] = (value, weight)
        self.weight += weight
        while len(self._kept) > self._entries or (self._weight and self.weight > self._weight):
            _, (_, gone) = self._kept.popitem(last=False)
            self.weight -= gone

    def clear(self) -> None:
        self._kept.clear()
        self.weight = 0
