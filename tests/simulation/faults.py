"""What goes wrong in a run: each seed picks some kinds of fault, and how often they strike."""

from random import Random

NETWORK = (
    "not_sent",  # nothing reached the partner, and the adapter knows
    "request_lost",
    "request_late",  # arrives when nobody waits any more
    "request_doubled",  # arrives again, later
    "answer_lost",  # after the effect
    "answer_late",
    "error_before",  # a 5xx without an effect
    "error_after",  # a 5xx after the effect
    "garbage",  # 200 with an error in it, or with another's answer
)
BEHAVIOUR = (
    "refuse_quote",
    "refuse_hold",
    "price_changed",
    "short_hold",
    "refuse_confirm",
    "pending",
    "refuse_cancel",
    "stale_status",  # NOT_FOUND from a replica that lags
    "busy_status",  # IN_FLIGHT, whatever happened
    "hook_late",
    "hook_doubled",
    "hook_renamed",  # the same news under another event id
    "consume",
    "no_show",
    "partner_cancels",
)
LIES = (
    "ignore_fence",  # acknowledged, and broken
    "confirm_late",  # after its deadline
    "contradict",  # two outcomes under one version
    "change_mind",  # a no that becomes a booking
    "old_news",  # a cancellation under a version that is over
)
RIDE = "ride"  # people order what is billed by its final fare; only as a mutant's weather
CRAWL = "crawl"  # a process whose every statement waits: others come between
CONTEST = "contest"  # short leases, late answers, eager workers: two drive one redemption
LATE = ("request_late", "answer_late")
GATEWAY = ("crash", "stall", "skew", "jump", "lost_reply", "slow_disk")
ORDINARY = frozenset(
    {"consume", "no_show", "partner_cancels", "pending", "hook_late", "crash", "lost_reply"}
)
"""Kinds that belong to a good day too."""


class Faults:
    """The faults of one run.

    Args:
        rng: Its own stream, so that a change elsewhere leaves it as it is.
    """

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.rates: dict[str, float] = {}
        self.on = True
        wild = rng.random() < 0.3
        for kind in (*NETWORK, *BEHAVIOUR, *GATEWAY):
            if rng.random() < (0.7 if wild or kind in ORDINARY else 0.35):
                self.rates[kind] = rng.choice((0.02, 0.06, 0.15, 0.3))
        if rng.random() < 0.25:
            for kind in LIES:
                if rng.random() < 0.5:
                    self.rates[kind] = rng.choice((0.2, 0.5))

    def strikes(self, kind: str) -> bool:
        """Whether this kind of fault happens now."""
        rate = self.rates.get(kind)
        return rate is not None and self.on and self.rng.random() < rate

    def of_network(self) -> str | None:
        """What happens to one call, if anything."""
        if not self.on:
            return None
        for kind in NETWORK:
            rate = self.rates.get(kind)
            if rate is not None and self.rng.random() < rate:
                return kind
        return None
