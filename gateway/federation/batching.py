"""Which groups become one request: calls to one subgraph that can be ready together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gateway.federation.fetches import Group, waits_for

MAX_DELAYED = 200
"""Above so many batches only those of one level are joined: the search for slack is quadratic."""


@dataclass(slots=True, eq=False)
class Batch:
    """One request to come; `level` is the length of the longest chain that ends in it."""

    service: str
    groups: list[Group]
    after: set["Batch"] = field(default_factory=set)
    level: int = 1

    @property
    def calls(self) -> bool:
        """Whether it asks for entities, so that others that do may go with it."""
        first = self.groups[0]
        return first.place is not None and not first.again


def batch(groups: Sequence[Group]) -> list[Batch]:
    """Join what can go together, never lengthening the longest chain; in order of sending."""
    batches = _singles(groups)
    batches = _join_levels(batches)
    if len(batches) <= MAX_DELAYED:
        batches = _join_with_slack(batches)
    _level(batches)
    if len(batches) <= MAX_DELAYED:
        _reduce(batches)
    order = {one: number for number, one in enumerate(batches)}
    return sorted(batches, key=lambda one: (one.level, order[one]))


def _singles(groups: Sequence[Group]) -> list[Batch]:
    by_group = {one: Batch(one.service, [one]) for one in groups}
    for group, one in by_group.items():
        one.after = {by_group[other] for other in group.after}
    batches = list(by_group.values())
    _level(batches)
    return batches


def _level(batches: Iterable[Batch]) -> None:
    """Set the level of each; parents may stand anywhere in the list."""
    done: set[Batch] = set()
    for first in batches:
        stack = [first]
        while stack:
            one = stack[-1]
            waiting = [other for other in one.after if other not in done]
            if one in done or not waiting:
                stack.pop()
                if one not in done:
                    one.level = 1 + max((other.level for other in one.after), default=0)
                    done.add(one)
            else:
                stack.extend(waiting)


def _join_levels(batches: list[Batch]) -> list[Batch]:
    """Join entity calls to one subgraph on one level, level by level."""
    level = 1
    while any(one.level >= level for one in batches):
        found: dict[str, Batch] = {}
        into: dict[Batch, Batch] = {}
        for one in batches:
            if one.level == level and one.calls:
                first = found.setdefault(one.service, one)
                if first is not one:
                    into[one] = first
        if into:
            batches = _joined(batches, into)
        level += 1
    return batches


def _joined(batches: list[Batch], into: dict[Batch, Batch]) -> list[Batch]:
    for one, first in into.items():
        first.groups.extend(one.groups)
        first.after |= one.after
    kept = [one for one in batches if one not in into]
    for one in kept:
        one.after = {into.get(other, other) for other in one.after} - {one}
    _level(kept)
    return kept


def _join_with_slack(batches: list[Batch]) -> list[Batch]:
    """Let an early call wait for a later one to the same subgraph, if nobody waits longer."""
    depth = max((one.level for one in batches), default=0)
    changed = True
    while changed:
        changed = False
        latest = _latest(batches, depth)
        calls = [one for one in batches if one.calls]
        for early in sorted(calls, key=lambda one: one.level):
            for late in calls:
                if (
                    late.service == early.service
                    and early.level < late.level <= latest[early]
                    and not waits_for(late, early)
                ):
                    batches = _joined(batches, {early: late})
                    changed = True
                    break
            if changed:
                break
    return batches


def _reduce(batches: list[Batch]) -> None:
    """Wait for nobody whom one waits for anyway."""
    above: dict[Batch, set[Batch]] = {}
    for one in sorted(batches, key=lambda each: each.level):
        indirect = set[Batch]().union(*(above[other] for other in one.after))
        above[one] = indirect | one.after
        one.after -= indirect


def _latest(batches: list[Batch], depth: int) -> dict[Batch, int]:
    """The last level each could be on without the whole getting longer."""
    latest = dict.fromkeys(batches, depth)
    for one in sorted(batches, key=lambda each: -each.level):
        for other in one.after:
            latest[other] = min(latest[other], latest[one] - 1)
    return latest
