"""What processes spend and keep: processor seconds and memory, read from /proc."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
MB = 1024 * 1024


def cpu_of(pid: int, *, children: bool = False) -> float:
    """Seconds on a processor so far; `children`: of those that have ended and been waited for."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    after_name = text.rpartition(")")[2].split()
    user, system, user_of, system_of = (int(word) for word in after_name[11:15])
    return (user + system + (user_of + system_of if children else 0)) / _TICK


def children_of(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def family_cpu(pid: int) -> float:
    """Of a process and its children: those that run and those that have ended."""
    return cpu_of(pid, children=True) + sum(
        cpu_of(child, children=True) for child in children_of(pid)
    )


def memory_of(pid: int, name: str = "VmRSS") -> float:
    """MB resident; `RssAnon` leaves out what is shared with others."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    for line in lines.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def backends_cpu(pid: int) -> dict[int, float]:
    """Processor seconds of each living child of the postmaster."""
    return {child: cpu_of(child) for child in children_of(pid)}


@dataclass
class Memory:
    """Samples of one process's memory over time."""

    at: list[float] = field(default_factory=list)
    mb: list[float] = field(default_factory=list)

    def slope(self, *, skip: float) -> float:
        """MB an hour by least squares, without the first `skip` seconds."""
        pairs = [(t, m) for t, m in zip(self.at, self.mb, strict=True) if t - self.at[0] >= skip]
        if len(pairs) < 3:
            return 0.0
        mean_t = sum(t for t, _ in pairs) / len(pairs)
        mean_m = sum(m for _, m in pairs) / len(pairs)
        spread = sum((t - mean_t) ** 2 for t, _ in pairs)
        return sum((t - mean_t) * (m - mean_m) for t, m in pairs) / spread * 3600 if spread else 0.0

    def by_minute(self) -> list[float]:
        """The last sample of each minute."""
        last = {int((at - self.at[0]) // 60): mb for at, mb in zip(self.at, self.mb, strict=True)}
        return [round(mb, 1) for mb in last.values()]


class Watch:
    """Samples several processes; the server of the database by its family.

    Args:
        pids: Process ids by name.
        postmaster: The database's first process.
    """

    def __init__(self, pids: dict[str, int], postmaster: int) -> None:
        self.pids = pids
        self.postmaster = postmaster
        self.memory = {name: Memory() for name in (*pids, "postgresql")}

    def sample(self) -> None:
        now = time.monotonic()
        for name, pid in self.pids.items():
            self._note(name, now, memory_of(pid))
        family = (self.postmaster, *children_of(self.postmaster))
        self._note("postgresql", now, sum(memory_of(pid, "RssAnon") for pid in family))

    def _note(self, name: str, now: float, mb: float) -> None:
        if mb:
            self.memory[name].at.append(now)
            self.memory[name].mb.append(mb)

    def cpu(self) -> dict[str, float]:
        """Processor seconds so far, by name."""
        spent = {name: cpu_of(pid) for name, pid in self.pids.items()}
        return spent | {"postgresql": family_cpu(self.postmaster)}
