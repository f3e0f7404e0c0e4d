"""Business days with their lunar dates and holidays, and which of them a promotion runs on. Pure.

A calendar rule is a document, as in the catalog data:

always · years {from_on} · months {months} · weekdays {iso} · lunar_days {days, towns} ·
lunar_range {from_md, until_md} (half-open, may run over New Year) ·
member_date {field, before_days, after_days} (judged per member, see `member_window`);
any kind may have `from_on`, `until_on` (half-open) and `exclude: public_holiday`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

ONE_DAY = timedelta(days=1)
SATURDAY = 6
KINDS = frozenset(
    {"always", "years", "months", "weekdays", "lunar_days", "lunar_range", "member_date"}
)


@dataclass(frozen=True, slots=True)
class Day:
    """One business day. `flag`: H public holiday, HP provisional one, W make-up work day."""

    on: date
    lunar_year: int
    lunar_month: int
    lunar_day: int
    leap: bool = False
    flag: str = ""
    festival: str = ""
    solar_term: str = ""

    @property
    def listed_holiday(self) -> bool:
        return self.flag in ("H", "HP")


Days = Mapping[date, Day]


def read_days(
    rows: Iterable[Sequence[str]], *, solar_terms: Iterable[Sequence[str]] = ()
) -> list[Day]:
    """Read rows such as `["2027-02-06", "2027-01-01", "HP 春节"]`.

    Args:
        rows: Solar date, lunar year-month-day (L after the month of a leap month), and
            optionally flag and festival.
        solar_terms: Solar date and name of each solar term.
    """
    terms = {date.fromisoformat(on): name for on, name in solar_terms}
    days = []
    for on, lunar, *rest in rows:
        words = rest[0].split() if rest else []
        flag = words.pop(0) if words and words[0] in ("H", "HP", "W") else ""
        year, month, day = lunar.split("-")
        solar = date.fromisoformat(on)
        days.append(
            Day(
                on=solar,
                lunar_year=int(year),
                lunar_month=int(month.rstrip("L")),
                lunar_day=int(day),
                leap=month.endswith("L"),
                flag=flag,
                festival=" ".join(words),
                solar_term=terms.get(solar, ""),
            )
        )
    return days


def is_public_holiday(days: Days, on: date) -> bool:
    """Whether a day is a listed holiday, or of a weekend that touches one.

    A make-up work day never is. Source: legend of the calendar data.
    """
    day = days.get(on)
    if day and (day.flag == "W" or day.listed_holiday):
        return day.listed_holiday
    if on.isoweekday() < SATURDAY:
        return False
    friday = on - ONE_DAY * (on.isoweekday() - SATURDAY + 1)
    weekend = (days.get(friday + ONE_DAY * step) for step in range(4))
    return any(other.listed_holiday for other in weekend if other)


def runs_on(rule: Mapping[str, Any], days: Days, on: date, *, town: str | None = None) -> bool:
    """Whether a rule holds on a business day; a lunar rule never does on a day not in `days`.

    Args:
        town: For rules per town; a rule with towns holds in no other, and nowhere for None.
    """
    if "from_on" in rule and on < date.fromisoformat(rule["from_on"]):
        return False
    if "until_on" in rule and on >= date.fromisoformat(rule["until_on"]):
        return False
    if rule.get("exclude") == "public_holiday" and is_public_holiday(days, on):
        return False
    if "towns" in rule and town not in rule["towns"]:
        return False
    return _matches(rule, days.get(on), on)


def _matches(rule: Mapping[str, Any], day: Day | None, on: date) -> bool:
    match rule["kind"]:
        case "always" | "years":
            return True
        case "months":
            return on.month in rule["months"]
        case "weekdays":
            return on.isoweekday() in rule["iso"]
        case "lunar_days":
            return day is not None and day.lunar_day in rule["days"]
        case "lunar_range":
            return day is not None and not day.leap and _in_range(rule, day)
        case _:  # member_date: judged per member.
            return False


def _in_range(rule: Mapping[str, Any], day: Day) -> bool:
    start, end = tuple(rule["from_md"]), tuple(rule["until_md"])
    lunar = (day.lunar_month, day.lunar_day)
    if start <= end:
        return start <= lunar < end
    return lunar >= start or lunar < end


def next_run(
    rule: Mapping[str, Any], days: Days, after: date, *, town: str | None = None, horizon: int = 400
) -> tuple[date, date] | None:
    """The next run of a rule that starts after a day.

    Returns:
        Its first day and the first day after it, or None when there is none within `horizon`
        days or within the calendar.
    """
    start = after + ONE_DAY
    last = after + ONE_DAY * horizon
    while start <= last and not runs_on(rule, days, start, town=town):
        start += ONE_DAY
    if start > last:
        return None
    end = start + ONE_DAY
    while end <= last and runs_on(rule, days, end, town=town):
        end += ONE_DAY
    return start, end


def member_window(rule: Mapping[str, Any], dates: Mapping[str, str], around: date) -> bool:
    """Whether `around` lies near the yearly return of a member's date (`MM-DD` or a full date).

    Both ends belong to it. 29 February returns on 28 February.
    """
    known = dates.get(rule["field"])
    if known is None:
        return False
    month, day = (int(part) for part in known.split("-")[-2:])
    for year in (around.year - 1, around.year, around.year + 1):
        returns = _day_in(year, month, day)
        first = returns - ONE_DAY * rule["before_days"]
        if first <= around <= returns + ONE_DAY * rule["after_days"]:
            return True
    return False


def _day_in(year: int, month: int, day: int) -> date:
    try:
        return date(year, month, day)
    except ValueError:
        return date(year, month, day - 1)
