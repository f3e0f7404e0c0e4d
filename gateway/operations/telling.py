"""The doctor's findings as lines for people, or as JSON."""

import json
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import asdict

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from gateway.operations import doctor
from gateway.operations.checks import Finding, Verdict
from gateway.settings import Settings

_MARKS: Mapping[Verdict, tuple[str, str]] = {
    Verdict.OK: ("✓", "green"),
    Verdict.WARN: ("!", "yellow"),
    Verdict.FAIL: ("✗", "bold red"),
    Verdict.SKIP: ("·", "dim"),
}


async def tell(
    settings: Settings,
    asked: Mapping[str, bool],
    *,
    out: Console,
    err: Console,
    as_json: bool,
) -> bool:
    """Examine, print a line per finding as it comes, and count at the end.

    Args:
        asked: `partners` and `books` of `doctor.examine`.
        err: Where progress goes.

    Returns:
        Whether no check failed; warnings do not count.
    """
    found: list[Finding] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=None)

        def progress(what: str) -> None:
            bar.update(task, description=what)

        async with aclosing(doctor.examine(settings, **asked, progress=progress)) as findings:
            async for finding in findings:
                found.append(finding)
                if not as_json:
                    _print(finding, out)
    if as_json:
        rows = [asdict(finding) for finding in found]
        out.print_json(json.dumps(rows, ensure_ascii=False), highlight=False)
    else:
        counts = {each: sum(item.verdict is each for item in found) for each in Verdict}
        out.print(", ".join(f"{count} {each}" for each, count in counts.items() if count))
    return all(item.verdict is not Verdict.FAIL for item in found)


def _print(finding: Finding, out: Console) -> None:
    mark, style = _MARKS[finding.verdict]
    line = Text.assemble((mark, style), f" {finding.check}: {finding.zh} · {finding.en}")
    if finding.next_zh:
        line.append(f" → {finding.next_zh} · {finding.next_en}", style)
    out.print(line, soft_wrap=True)
