"""Budgets, bases, and who may approve. Pure."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise

from gateway.errors import Refused
from gateway.ledger.model import Line, budget_book, credit, debit

COMP = "COMP"  # the slice compensation draws on, approved on top of the budget

# Why points may exist; the follow-on ones cite the event they rest on. Source: C-05.
BASES = (
    "PURCHASE",
    "VERIFIED_TASK",
    "VERIFIED_CARBON_ACTION",
    "ENTERPRISE_CONTRACT",
    "DRAW_PRIZE",
    "COMPENSATION",
    "ADJUSTMENT",
)


# No name of the API may say that points pass between people, change their programme or become
# money. Source: the red lines of requirements §5.
_RED = re.compile(
    r"transfer(s|red|able|ring)?|exchang(e|es|ed|eable|ing)|convert(s|ed|ing|ible)?|conversions?"
    r"|swap(s|ped|ping)?|cash(outs?|able|back)|withdraw(s|n|als?|ing)?|payouts?"
    r"|(re)?sells?|(re)?selling|sold|resale|lends?|lending|lent"
    r"|encash(ed|ing|ment)?|liquidat(e|es|ed|ing|ion)|moneti[sz](e|es|ed|ing|ation)"
    r"|money|currency|currencies|coins?|gift(s|ed|ing)"
    r"|tixian|duixian|bianxian|taoxian|zhexian|zhuanrang|zhuanzeng|huzhuan|huhuan"
)
# Harmless alone, red beside points.
_BESIDE_POINTS = frozenset(
    {"cash", "rmb", "cny", "yuan", "coalition", "common", "universal", "unified", "shared"}
    | {"send", "give", "gift", "share"}
)
_POINTS = frozenset({"point", "points", "miles", "jifen"})
_SPLIT = re.compile(r"transfer|exchange|convert|withdraw|encash|moneti[sz]e")
_RED_TEXT = re.compile(
    r"提现|兑现|变现|套现|折现|转让|转赠|互转|互换|换钱|换成?现金|兑成?现金|通用积分|通用货币|代币"
)
_NOT_SO = re.compile(r"(不|禁止|严禁|无法|无权)[^,,]{0,8}$")
_SENTENCE = re.compile(r"[。;!?.;!?\n]")
_NEVER = frozenset(["not", "never", "no", "cannot", "nor", "without", "neither", "t"])
_AS_MONEY = re.compile(
    r"\b(points?|miles)\b.{0,40}\b(as|for|into|to|is|are|equals?|like|=)\W+"
    r"(\w+ )?(cash|money|rmb|cny|yuan)\b",
    re.IGNORECASE,
)
_RED_PAIRS = frozenset({("cash", "out"), ("cash", "back"), ("pay", "out")})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def red_words(name: str) -> list[str]:
    """The words in a name that a red line forbids, as in `pointsTransfer` or `cash_out`."""
    words = [word.lower() for word in _WORD.findall(name)]
    pairs = [f"{a} {b}" for a, b in pairwise(words) if (a, b) in _RED_PAIRS]
    found = [word for word in words if _RED.fullmatch(word)] + pairs
    if not _POINTS.isdisjoint(words):
        found += [word for word in words if word in _BESIDE_POINTS]
    return found or ([] if len(words) == 1 else _SPLIT.findall("".join(words)))


def red_phrases(text: str) -> list[str]:
    """What a text says of points that a red line forbids; that they are not so may be said."""
    found = []
    for sentence in _SENTENCE.split(text):
        marks = _RED_TEXT.finditer(sentence)
        found += [mark.group() for mark in marks if not _NOT_SO.search(sentence[: mark.start()])]
        words = {word.lower() for word in _WORD.findall(sentence)}
        if _POINTS.isdisjoint(words) or not _NEVER.isdisjoint(words):
            continue
        found += sorted(word for word in words if _RED.fullmatch(word))
        if mark := _AS_MONEY.search(sentence):
            found.append(mark.group())
    return found


class FourEyesRequired(Refused):
    code = "FOUR_EYES_REQUIRED"
    when = "approver = proposer, or limit too low, for every pair of propose and approve"
    zh = "需要另一位有权限的同事批准"
    en = "another person with a sufficient limit must approve"
    next_zh = "提出人不能自己批准,限额也须足够:请有权限的同事批准"
    next_en = "not who proposed it, and within the limit: ask a colleague"


class NoConsumptionBasis(Refused):
    code = "NO_CONSUMPTION_BASIS"
    when = "an issue without valid basis"
    zh = "没有真实消费依据,不能发放"
    en = "no real purchase behind this; nothing issued"
    next_zh = "请关联一笔消费"
    next_en = "cite a purchase"


class UnspecifiedRecipient(Refused):
    code = "UNSPECIFIED_RECIPIENT"
    when = "an issue to nobody identified, or without consent"
    zh = "只能向已登记的会员发放"
    en = "points go to registered members only"
    next_zh = "请先登记会员"
    next_en = "register the member"


class LicenceInvalid(Refused):
    code = "LICENCE_INVALID"
    when = "live issue or publication without a valid licence"
    zh = "许可证已于 {expired_on} 到期,正式环境停止发放"
    en = "the licence ended on {expired_on}; live issue is off"
    next_zh = "请登记续期的许可证"
    next_en = "record the renewal"


class IssuerExited(Refused):
    code = "ISSUER_EXITED"
    when = "an issue by an issuer that has left"
    zh = "{issuer}已退出,不能再发放,原有积分仍可兑换"
    en = "{issuer} has left; its points stay redeemable"
    next_zh = "原有积分仍可兑换"
    next_en = "its points can still be redeemed"


class BudgetExceeded(Refused):
    code = "BUDGET_EXCEEDED"
    when = "issue above the budget or its slice"
    zh = "超出年度营销预算({budget_points} 分),还可发 {left_points} 分"
    en = "above the yearly budget of {budget_points} points; {left_points} left"
    next_zh = "请提出预算并由另一人批准"
    next_en = "approve a budget, with two people"


@dataclass(frozen=True, slots=True)
class Budget:
    """An issuer's marketing budget of one year, in fen; compensation comes on top of it."""

    id: str
    issuer: str
    year: int
    budget_fen: int
    compensation_bps: int
    proposed_by: str
    approved_by: str | None = None
    approved_at: datetime | None = None

    @property
    def compensation_fen(self) -> int:
        return self.budget_fen * self.compensation_bps // 10_000


@dataclass(frozen=True, slots=True)
class Licence:
    """The operator's licence, valid in [valid_from, valid_until)."""

    kind: str
    number: str
    scope: str
    valid_from: date
    valid_until: date


def require_four_eyes(*, proposer: str, approver: str, amount_fen: int, limit_fen: int) -> None:
    """Check that another person with a sufficient limit approves.

    Raises:
        FourEyesRequired: It is the proposer, or the limit is below the amount.
    """
    if approver == proposer:  # No number is at fault.
        raise FourEyesRequired(proposed_by=proposer)
    if limit_fen < amount_fen:
        raise FourEyesRequired(amount_fen=amount_fen, limit_fen=limit_fen)


def budget_account(slice: str | None) -> str:
    """The account an issue is charged to."""
    return f"BUDGET_AVAIL:{slice}" if slice else "BUDGET_AVAIL"


def budget_lines(issuer: str, value_fen: int, slice: str | None = None) -> tuple[Line, ...]:
    """The lines that charge an issue of declared value `value_fen` to the budget or a slice.

    Returns:
        None at all when the value is below one fen.
    """
    return _move(issuer, budget_account(slice), "BUDGET_USED", value_fen)


def refund_lines(issuer: str, value_fen: int, slice: str | None = None) -> tuple[Line, ...]:
    """The lines that give the value of a taken-back issue to the budget again."""
    return _move(issuer, "BUDGET_USED", budget_account(slice), value_fen)


def slice_lines(issuer: str, slice: str, fen: int) -> tuple[Line, ...]:
    """The lines that set aside a part of the yearly budget for a campaign."""
    return _move(issuer, budget_account(None), budget_account(slice), fen)


def approval_lines(issuer: str, account: str, fen: int) -> tuple[Line, ...]:
    """The lines that make approved budget available."""
    return _move(issuer, "BUDGET_APPROVED", account, fen)


def lapse_lines(issuer: str, account: str, fen: int) -> tuple[Line, ...]:
    """The lines that take unused budget back at the end of its year."""
    return _move(issuer, account, "BUDGET_APPROVED", fen)


def _move(issuer: str, source: str, target: str, fen: int) -> tuple[Line, ...]:
    if fen == 0:
        return ()
    book = budget_book(issuer)
    return (debit(book, source, fen), credit(book, target, fen))
