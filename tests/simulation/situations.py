"""Situations that must occur at least once in a long campaign: else it proves nothing of them."""

from collections import Counter
from collections.abc import Mapping

from tests.simulation.faults import BEHAVIOUR, CRAWL, LIES, NETWORK

SOMETIMES: Mapping[str, tuple[str, ...]] = {
    **{f"fault {kind}": (f"fault {kind}",) for kind in (*NETWORK, *BEHAVIOUR)},
    **{f"lie {kind}": (f"lie {kind}",) for kind in LIES},
    "a stalled process": ("fault stall",),
    "a process that crawls": (f"fault {CRAWL}",),
    "a clock that is wrong": ("clock skewed",),
    "driven by two at once": ("driven by two",),
    "a lease taken over from one who still drives": ("lease taken over",),
    "business time jumps": ("done clock jump",),
    "gateway dies before a commit": ("crash gatewa before commit",),
    "gateway dies after a commit": ("crash gatewa after commit",),
    "worker dies before a commit": ("crash worker before commit",),
    "worker dies after a commit": ("crash worker after commit",),
    "dies before the confirm leaves": (
        "crash gatewa before confirm",
        "crash worker before confirm",
    ),
    "dies with the confirm's answer": ("crash gatewa after confirm", "crash worker after confirm"),
    "dies with the fence's answer": ("crash gatewa after fence", "crash worker after fence"),
    "dies with the cancel's answer": ("crash gatewa after cancel", "crash worker after cancel"),
    "a late confirmation, held again": ("move RELEASED > LATE_CONFIRMED",),
    "a late confirmation, cancelled": ("finding LATE_CONFIRM_CANCELLED",),
    "a fence that was broken": ("finding FENCE_VIOLATED",),
    "a fence acknowledged in doubt": ("move IN_DOUBT > RELEASED", "move IN_DOUBT > RELEASING"),
    "a contradiction": ("finding STATUS_DIFF",),
    "doubt ends in a booking": ("move IN_DOUBT > COMMITTED",),
    "doubt of a cancellation": ("move CANCELLING > IN_DOUBT",),
    "consumed before the answer": ("move CONFIRMING > FULFILLED", "move IN_DOUBT > FULFILLED"),
    "doubt too old": ("operator fences",),
    "two legs and more": ("legs 2", "legs 3"),
    "three legs": ("legs 3",),
    "settled windows": ("done book leg",),
    "every end": ("end COMMITTED",),
    "ends released": ("end RELEASED",),
    "ends cancelled": ("end CANCELLED",),
    "ends fulfilled": ("end FULFILLED",),
    "ends confirmed late": ("end LATE_CONFIRMED",),
    "a lower fare": ("journal FARE_ADJUST",),
    "a compensation": ("journal COMPENSATE",),
    "points expire": ("journal EXPIRE",),
    "points mature": ("journal MATURE",),
    "a return": ("journal CLAW_BACK",),
}


def missing(counts: Counter[str]) -> list[str]:
    """The situations that never occurred."""
    return [name for name, ones in SOMETIMES.items() if not any(counts[one] for one in ones)]
