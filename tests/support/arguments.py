"""Arguments of the campaigns' commands: what makes no sense is refused before anything starts.

A misspelt name or a zero that checks nothing must not end well: it would stay green for ever.
"""

import argparse
import math
from collections.abc import Callable, Collection
from pathlib import Path


def whole(at_least: int = 1) -> Callable[[str], int]:
    """A whole number, not below a limit; a `type` of argparse."""

    def read(text: str) -> int:
        number = int(text)
        if number < at_least:
            raise argparse.ArgumentTypeError(f"{text}: at least {at_least} is expected")
        return number

    read.__name__ = "whole number"  # argparse names it where `int` refuses.
    return read


def more_than_nothing(text: str) -> float:
    """A number above zero, as of minutes; a `type` of argparse."""
    number = _number(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text}: more than 0 is expected")
    return number


def percent(text: str) -> float:
    """From 0 to 100; a `type` of argparse."""
    number = _number(text)
    if not 0 <= number <= 100:
        raise argparse.ArgumentTypeError(f"{text}: 0 to 100 is expected")
    return number


def file(text: str) -> Path:
    """A file that is there; a `type` of argparse."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text}: there is no such file")
    return path


def new_folder(text: str) -> Path:
    """A folder that is not there yet, so that nothing of an earlier run is taken for this one's."""
    path = Path(text)
    if path.exists():
        raise argparse.ArgumentTypeError(f"{text} is there already: a new folder is expected")
    return path


def refuse_unknown(
    parser: argparse.ArgumentParser, what: str, unknown: Collection[str], known: Collection[str]
) -> None:
    """End with a usage error that says which names there are, if some asked for are none."""
    if unknown:
        parser.error(f"no {what} {', '.join(map(repr, unknown))}; there are: {', '.join(known)}")


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text}: a number is expected")
    return number
