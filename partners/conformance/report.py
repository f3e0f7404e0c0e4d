"""What came of a certification, for people, for programs and for a CI server. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as Xml

from partners.conformance import CheckResult, Status

MARKS = {Status.PASS: "✓", Status.WARN: "!", Status.FAIL: "✗", Status.SKIP: "–"}


def ready(results: Sequence[CheckResult]) -> bool:
    """Whether the partner may go live: no check failed."""
    return all(result.status is not Status.FAIL for result in results)


def headline(results: Sequence[CheckResult]) -> str:
    """One line: `28 checks · 27 PASS · 1 FAIL · ready for live: NO (CF-C11)`."""
    counts = Counter(result.status for result in results)
    parts = [f"{len(results)} checks"]
    parts += [f"{counts[status]} {status}" for status in Status if counts[status]]
    failed = ", ".join(result.check.id for result in results if result.status is Status.FAIL)
    parts.append(f"ready for live: {f'NO ({failed})' if failed else 'YES'}")
    return " · ".join(parts)


def text(results: Sequence[CheckResult]) -> str:
    """A line per check in Chinese, with reason, calls and hint where it is not well."""
    lines = []
    for result in results:
        milliseconds = f"{result.seconds * 1000:6.0f} ms"
        mark = MARKS[result.status]
        lines.append(f" {mark} {result.check.id} {milliseconds}  {result.check.zh}")
        if result.reason:
            lines.append(f"   {result.status}: {result.reason}")
        if result.status is Status.FAIL:
            lines += [f"   {exchange}" for exchange in result.exchanges]
            lines.append(f"   建议: {result.check.hint}")
    return "\n".join([*lines, headline(results)])


def document(results: Sequence[CheckResult]) -> dict[str, Any]:
    """The same as JSON."""
    return {
        "headline": headline(results),
        "ready": ready(results),
        "checks": [
            {
                "id": result.check.id,
                "zh": result.check.zh,
                "en": result.check.en,
                "status": result.status.value,
                "reason": result.reason,
                "hint": result.check.hint,
                "seconds": round(result.seconds, 3),
                "exchanges": list(result.exchanges),
            }
            for result in results
        ],
    }


def junit(partner: str, results: Sequence[CheckResult]) -> str:
    """The same as JUnit XML."""
    counts = Counter(result.status for result in results)
    suite = Xml.Element(
        "testsuite",
        name=f"certify-partner {partner}",
        tests=str(len(results)),
        failures=str(counts[Status.FAIL]),
        skipped=str(counts[Status.SKIP]),
    )
    for result in results:
        case = Xml.SubElement(
            suite,
            "testcase",
            classname=f"{partner}.{result.check.group}",
            name=f"{result.check.id} {result.check.en}",
            time=f"{result.seconds:.3f}",
        )
        if result.status is Status.FAIL:
            failure = Xml.SubElement(case, "failure", message=result.reason)
            failure.text = "\n".join([*result.exchanges, result.check.hint])
        elif result.status is Status.SKIP:
            Xml.SubElement(case, "skipped", message=result.reason)
    return Xml.tostring(suite, encoding="unicode")
