"""What a break probably means, computed from its numbers, in Chinese and English. Pure."""

from gateway.reconciliation.model import Code, Hypothesis, Row
from gateway.values import bps_half_up

JIAO = 10  # fen; prices are given in tenths of a yuan


def difference(ours: Row, theirs: Row) -> tuple[Code, Hypothesis]:
    """Classify two rows of one claim with different amounts.

    Returns:
        UNIT_DIFF, ROUNDING, FEE_DIFF, RATE_VERSION or AMOUNT_DIFF, with the evidence.
    """
    mine, other, rating = ours.amount_fen, theirs.amount_fen, ours.rating
    apart = abs(other - mine)
    if other == 100 * mine or mine == 100 * other:
        return Code.UNIT_DIFF, Hypothesis(
            f"{_yuan(other)} 与 {_yuan(mine)} 恰为 100 倍,疑似分与元混用",
            f"{_yuan(other)} and {_yuan(mine)} are 100 : 1; fen taken for yuan",
        )
    if apart <= 1:
        return Code.ROUNDING, Hypothesis(
            "差 1 分,疑似舍入方式不同", "1 fen apart; rounded differently"
        )
    if rating and apart == rating.fee_fen:
        return Code.FEE_DIFF, Hypothesis(
            f"差额 {_yuan(apart)} 元等于服务费,疑似服务费计入结算额",
            f"{_yuan(apart)} apart is the fee; the fee was counted into the amount",
        )
    if rating:
        for bps in rating.other_bps:
            if bps_half_up(rating.face_fen, bps) == other:
                return Code.RATE_VERSION, Hypothesis(
                    f"{_yuan(other)} = {_yuan(rating.face_fen)} × {_pct(bps)},"
                    f"疑似按旧协议结算,现行为 {_pct(rating.bps)}",
                    f"{_yuan(other)} = {_yuan(rating.face_fen)} × {_pct(bps)}: rated by another "
                    f"version of the agreement; {_pct(rating.bps)} is in force",
                )
    return Code.AMOUNT_DIFF, _amount(ours, theirs)


def missing_partner(row: Row) -> Hypothesis:
    return Hypothesis(
        f"对方账单缺少 {row.ref} 的 {_yuan(row.amount_fen)} 元,请先查询对方状态",
        f"the statement lacks {_yuan(row.amount_fen)} of {row.ref}; ask the partner's status",
    )


def missing_us(row: Row) -> Hypothesis:
    ref = row.ref or row.partner_ref
    return Hypothesis(
        f"我方没有 {ref} 的 {_yuan(row.amount_fen)} 元,请按对方单号查找",
        f"we have no {_yuan(row.amount_fen)} of {ref}; look it up by their reference",
    )


def duplicate(row: Row, *, whose_zh: str, whose_en: str) -> Hypothesis:
    ref = row.ref or row.partner_ref
    return Hypothesis(
        f"{whose_zh}重复列出 {ref},多计 {_yuan(row.amount_fen)} 元",
        f"{ref} is listed twice by {whose_en}; {_yuan(row.amount_fen)} too much",
    )


def cutoff(ours: Row, theirs: Row) -> Hypothesis:
    return Hypothesis(
        f"我方计入 {ours.business_date},对方计入 {theirs.business_date},疑似跨期",
        f"booked on {ours.business_date} by us and {theirs.business_date} by the partner",
    )


def status(row: Row, *, cancelled_by_us: bool) -> Hypothesis:
    if cancelled_by_us:
        return Hypothesis(
            f"我方已取消 {row.ref},对方账单仍为已兑换",
            f"we have cancelled {row.ref}; the partner still lists it as used",
        )
    return Hypothesis(
        f"对方已冲正 {row.ref},我方仍为已兑换",
        f"the partner has reversed {row.ref}; we still have it as used",
    )


def party(ours: Row, theirs: Row) -> tuple[str, Hypothesis]:
    """Which party differs, and the words for it."""
    name = "issuer" if ours.issuer != theirs.issuer else "merchant"
    mine, other = getattr(ours, name), getattr(theirs, name)
    what = "发行方" if name == "issuer" else "商户"
    return name, Hypothesis(
        f"金额相同,{what}不同:我方 {mine},对方 {other}",
        f"same amount, other {name}: {mine} with us, {other} with the partner",
    )


def _amount(ours: Row, theirs: Row) -> Hypothesis:
    mine, other, rating = ours.amount_fen, theirs.amount_fen, ours.rating
    apart = _yuan(abs(other - mine))
    if other == -mine:
        return Hypothesis(
            f"差额 {apart} 元 = 2 × {_yuan(abs(mine))},疑似正负号相反",
            f"{apart} = 2 × {_yuan(abs(mine))}: the sign is the other way round",
        )
    if rating and other == rating.face_fen:
        return Hypothesis(
            f"{_yuan(other)} 为票面价,疑似未按 {_pct(rating.bps)} 结算",
            f"{_yuan(other)} is the list price; {_pct(rating.bps)} was not applied",
        )
    if mine and other % mine == 0:
        return Hypothesis(
            f"对方金额为我方的 {other // mine} 倍,疑似数量录错",
            f"theirs is {other // mine} times ours; the quantity may be wrong",
        )
    price = _other_price(ours, theirs)
    if price is not None and rating:
        high, low = max(price, rating.face_fen), min(price, rating.face_fen)
        sums = f"({_yuan(high)} − {_yuan(low)}) × {_pct(rating.bps)}"
        return Hypothesis(
            f"差额 {apart} 元 = {sums},疑似票价录成 {_yuan(price)}",
            f"{apart} = {sums}: the price was taken as {_yuan(price)}",
        )
    if sorted(str(mine)) == sorted(str(other)):
        return Hypothesis(
            f"{_yuan(mine)} 与 {_yuan(other)} 数字相同顺序不同,疑似录入颠倒",
            f"{_yuan(mine)} and {_yuan(other)} have the same digits; two were swapped",
        )
    return Hypothesis(f"差额 {apart} 元,原因待查", f"{apart} apart; no cause found")


def _other_price(ours: Row, theirs: Row) -> int | None:
    """The list price, in whole jiao, that would explain the partner's amount exactly."""
    rating = ours.rating
    if rating is None or theirs.amount_fen <= 0:
        return None
    moved = (theirs.amount_fen - ours.amount_fen) * 10_000
    price = rating.face_fen + moved // rating.bps
    exact = moved % rating.bps == 0 and price > 0 and price % JIAO == 0
    return price if exact and bps_half_up(price, rating.bps) == theirs.amount_fen else None


def _yuan(fen: int) -> str:
    return f"{'-' if fen < 0 else ''}{abs(fen) // 100}.{abs(fen) % 100:02d}"


def _pct(bps: int) -> str:
    whole, rest = divmod(bps, 100)
    return f"{whole}.{rest:02d}".rstrip("0").rstrip(".") + " %"
