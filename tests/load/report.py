"""Figures of a run: percentiles, rates and ratios, as tables and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

PERCENTILES = (50, 95, 99)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds: p50, p95, p99 and the largest."""
    ranked = sorted(seconds)
    if not ranked:
        return {}
    at = {f"p{p}": ranked[min(len(ranked) - 1, p * len(ranked) // 100)] for p in PERCENTILES}
    return {name: round(value * 1e3, 2) for name, value in (at | {"max": ranked[-1]}).items()}


def table(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Print a table; the first column is text, the others are figures."""
    made = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for row in rows:
        made.add_row(*(shown(cell) for cell in row))
    console.print(made)


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def show(console: Console, found: Mapping[str, Any]) -> None:
    """All tables of a redemption run."""
    rows = [(name, *values.values()) for name, values in found["steps_ms"].items() if values]
    heading = f"{found['committed']:,} redemptions in {found['seconds']:.0f} s"
    table(console, f"{heading}: ms a step", ("step", "p50", "p95", "p99", "max"), rows)
    cpu = [
        (name, seconds, found["cpu_ms_per_redemption"][name])
        for name, seconds in found["cpu_seconds"].items()
    ]
    table(console, "Processor", ("process", "seconds", "ms a redemption"), cpu)
    memory = [
        (name, one["start_mb"], one["end_mb"], one["mb_per_hour"], one["verdict"])
        for name, one in found["memory"].items()
    ]
    table(
        console,
        "Memory",
        ("process", "MB at first", "MB at last", "MB/h, 2nd half", "verdict"),
        memory,
    )
    if floor := found.get("floor"):
        sides = [
            ("redemptions/s", found["per_second"], floor["per_second"]),
            ("redemptions per CPU second of the database", found["per_db_cpu_second"],
             floor["per_db_cpu_second"]),
            ("  without the worker's share", found["per_db_cpu_second_of_gateways"],
             floor["per_db_cpu_second"]),
            ("statements a redemption (BEGIN, COMMIT apart)", found.get("statements", 0.0),
             floor["statements"]),
            ("transactions a redemption", found.get("transactions", 0.0), floor["transactions"]),
            ("  that write", found.get("commits_of_writes", 0.0), floor["transactions"]),
            ("rows written a redemption", "", floor["rows"]),
        ]  # fmt: skip
        rows = [(name, ours, raw, ours / raw if ours and raw else "") for name, ours, raw in sides]
        table(console, "Against raw SQL in the same run", ("", "ours", "raw", "ours/raw"), rows)
    console.print(f"Rows that redemptions share: {', '.join(found['shared_rows'])}.")
    errors = found["errors"]
    table(console, "Errors", ("step: code", "count"), list(errors.items()) or [("none", 0)])
    broken = found["broken_invariants"]
    console.print(f"Invariants: {', '.join(broken) if broken else 'all hold'}.")
    console.print(", ".join(f"{name} {value}" for name, value in found["machine"].items()))


def show_mixed(console: Console, found: Mapping[str, Any]) -> None:
    """All tables of a mixed run."""
    table(console, "Done", ("act", "count"), list(found["done"].items()))
    refused = list(found["refused"].items()) or [("none", 0)]
    table(console, "Refused", ("act: code", "count"), refused)
    table(console, "Redemptions at the end", ("state", "count"), list(found["redemptions"].items()))
    facts = [(name, found[name]) for name in ("windows_closed", "deadlocks")]
    facts.append(("lock waits over 50 ms", found["lock_waits_over_50_ms"]))
    facts.append(("unexpected refusals", sum(found["unexpected"].values())))
    table(console, "The server", ("", "count"), facts)
    broken = found["broken_invariants"]
    console.print(f"Invariants: {', '.join(broken) if broken else 'all hold'}.")


def show_facts(console: Console, found: Mapping[str, Any]) -> None:
    """A run whose figures are a list."""
    rows = [(name, value) for name, value in found.items() if name != "bad"]
    table(console, "Found", ("", "figure"), rows)
    for line in found["bad"]:
        console.print(line)


def show_hot(console: Console, found: Mapping[str, Any]) -> None:
    """The table of one issuer and shop against different ones."""
    rows = []
    for disk, one in found.items():
        for kind, ratio in (("", "ratio"), ("raw, ", "ratio_raw")):
            same, other = one[f"{kind}one"], one[f"{kind}different"]
            rates = (same["per_second"], other["per_second"], one[ratio])
            waits = (same["waits_for_a_lock"], other["waits_for_a_lock"])
            rows.append((f"{disk}{', raw SQL' if kind else ''}", *rates, *waits))
    columns = ("disk", "one pair /s", "different /s", "ratio", "waits, one", "waits, different")
    table(console, "Writers on one issuer and shop, and on different ones", columns, rows)
    for disk, one in found.items():
        errors = ", ".join(f"{count} × {name}" for name, count in one["errors"].items())
        broken = ", ".join(one["broken_invariants"])
        told = f"errors: {errors or 'none'}; invariants: {broken or 'all hold'}"
        console.print(f"{disk}: {told}.", highlight=False, markup=False)
