"""Every claim of the source texts that is arithmetic, computed by the product from its inputs."""

import re
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from typing import Any

import pytest

from gateway.catalog import pricing
from gateway.catalog.model import Price
from gateway.points import model as points
from gateway.promotions import coupons, savings
from gateway.promotions.coupons import CartLine
from gateway.values import business_day
from tests.support import coalition

VECTORS = {vector["id"]: vector for vector in coalition.read("seed_vectors")}
TIERS = {"gold": "金卡", "silver": "银卡", "ordinary": "普通"}
CAR, HOTEL = "P-CA", "P-YQ"
Vector = dict[str, Any]
Compute = Callable[[Vector], dict[str, object]]


def price(programme_id: str, offer_id: str, promotion: int | None = None) -> Price:
    programme = coalition.programmes()[programme_id]
    found = pricing.price(
        coalition.offers()[offer_id],
        programme_id=programme_id,
        issuer=programme.issuer,
        unit_zh=programme.unit_zh,
        value=programme.rate,
        book=coalition.book_price(programme_id, offer_id),
        promotion=(promotion, "PR") if promotion else None,
    )
    assert found
    return found


def target(programme_id: str, offer_id: str) -> savings.Target:
    return savings.Target(price(programme_id, offer_id).points, fen(offer_id))


def fen(offer_id: str) -> int:
    return coalition.offers()[offer_id].cash_fen


def exact(value: Fraction) -> int | list[int]:
    return int(value) if value.denominator == 1 else [value.numerator, value.denominator]


def pair(value: Fraction) -> list[int]:
    return [value.numerator, value.denominator]


def worth(programme_id: str, offer_id: str) -> Fraction:
    return target(programme_id, offer_id).fen_per_point


def nights(points_wanted: int) -> dict[str, int]:
    tiers = coalition.programmes()[HOTEL].earn["tiers"]
    return {
        name: savings.nights_needed(points_wanted, per_night=tiers[zh])
        for name, zh in TIERS.items()
    }


def coupon(offer_id: str, cart_fen: int) -> coupons.Discount:
    terms = coalition.offers()[offer_id].coupon
    assert terms
    category = (terms.get("only_categories") or [""])[0]
    return coupons.apply(terms, [CartLine(category, cart_fen)])


def a01(inputs: Vector) -> dict[str, object]:
    earning = coalition.programmes()[inputs["programme"]]
    return {"points": points.earned(earning, cash_fen=inputs["cash_fen"], category="保养")}


def a02(inputs: Vector) -> dict[str, object]:
    reach = savings.reach(target(CAR, inputs["offer"]), points_per_month=inputs["points_per_month"])
    return {"months": reach.months, "balance_after": reach.balance_after}


def a03(inputs: Vector) -> dict[str, object]:
    return {"fen_per_point": exact(worth(CAR, inputs["offer"]))}


def a05(inputs: Vector) -> dict[str, object]:
    year = savings.by_points(
        target(CAR, inputs["offer"]),
        months=inputs["months"],
        points_per_month=inputs["points_per_month"],
        rate=coalition.programmes()[CAR].rate,
    )
    return {
        "value_fen": year.value_fen,
        "services": year.services,
        "obtainable_fen": year.saved_fen,
        "points_left": year.points_left,
    }


def a06(inputs: Vector) -> dict[str, object]:
    programme = coalition.programmes()[CAR]
    year = savings.by_cash(
        target(CAR, inputs["offer"]),
        months=inputs["months"],
        bill_fen=inputs["bill_fen"],
        per_fen=programme.earn["per_fen"],
        rate=programme.rate,
    )
    return {
        "redeemed_in_months": list(year.redeemed_in_months),
        "earned_points": year.earned_points,
        "saved_fen": year.saved_fen,
        "points_left": year.points_left,
        "month_end_balances": list(year.month_end_balances),
    }


def changed(inputs: Vector) -> savings.PriceChange:
    return savings.price_change(inputs["list_points"], inputs["promo_points"])


def a07(inputs: Vector) -> dict[str, object]:
    assert inputs["list_points"] == price(CAR, inputs["offer"]).points
    change = changed(inputs)
    return {"price_change": pair(change.price), "value_change": pair(change.value)}


def a08(inputs: Vector) -> dict[str, object]:
    (promotion,) = [
        found
        for found in coalition.promotions().values()
        if found.kind == "price" and found.target == {"offer": inputs["offer"]}
    ]
    regular = price(CAR, inputs["offer"]).points
    return {"factor": pair(savings.price_change(regular, promotion.effect["points"]).factor)}


def a09(inputs: Vector) -> dict[str, object]:
    coupon_points = price(inputs["programme"], inputs["offer"]).points
    return {
        "pay_fen": coupon(inputs["offer"], inputs["premium_fen"]).pay_fen,
        "fen_per_point": exact(worth(inputs["programme"], inputs["offer"])),
        "maintenance_for_same_points_fen": int(coupon_points * worth(CAR, "CA-01")),
    }


def a10(inputs: Vector) -> dict[str, object]:
    wanted = target(CAR, "AX-01")
    return {"months": savings.reach(wanted, points_per_month=inputs["points_per_month"]).months}


def a11(inputs: Vector) -> dict[str, object]:
    taken = coupons.apply({"off_fen": inputs["off_fen"]}, [CartLine("", inputs["premium_fen"])])
    return {"share": pair(taken.share)}


def a12(inputs: Vector) -> dict[str, object]:
    return {"fen_per_point": exact(worth(HOTEL, inputs["offer"]))}


def a13(inputs: Vector) -> dict[str, object]:
    per_night = coalition.programmes()[HOTEL].earn["tiers"][inputs["tier"]]
    needed = savings.nights_needed(inputs["points"], per_night=per_night)
    assert points.earned_by_nights(needed, per_night) >= inputs["points"]
    return {"nights": needed}


def a14(inputs: Vector) -> dict[str, object]:
    needed = nights(inputs["points"])
    return {"silver": needed["silver"], "ordinary": needed["ordinary"]}


def a15(inputs: Vector) -> dict[str, object]:
    change = changed(inputs)
    off_season = price(HOTEL, inputs["offer"], promotion=inputs["promo_points"])
    return {
        "price_change": pair(change.price),
        "value_change": pair(change.value),
        "fen_per_point": exact(Fraction(off_season.rate.num, off_season.rate.den)),
        "nights": nights(inputs["promo_points"]),
    }


def a16(inputs: Vector) -> dict[str, object]:
    upgrade, night = worth(HOTEL, inputs["offer"]), worth(HOTEL, "YQ-01")
    return {
        "saved_fen": fen(inputs["offer"]),
        "fen_per_point": exact(upgrade),
        "times_free_night": pair(upgrade / night),
    }


def a17(inputs: Vector) -> dict[str, object]:
    hotel, car = coalition.programmes()[HOTEL], coalition.programmes()[CAR]
    spent = inputs["nights"] * inputs["price_fen"]
    rebates: dict[str, object] = {}
    for name, zh in TIERS.items():
        gained = points.earned(hotel, nights=inputs["nights"], tier=zh)
        rebates[name] = pair(savings.rebate(gained, hotel.rate, spent_fen=spent))
    gained = points.earned(car, cash_fen=spent, category="保养")
    return rebates | {"four_s": pair(savings.rebate(gained, car.rate, spent_fen=spent))}


def a18(inputs: Vector) -> dict[str, object]:
    hotel = coalition.programmes()[HOTEL]
    one, stay = (points.earned(hotel, nights=number, tier="金卡") for number in (1, 3))
    assert stay == 3 * one
    return {"unit": hotel.earn["kind"].removeprefix("per_")}


def a19(inputs: Vector) -> dict[str, object]:
    taken = coupon(inputs["offer"], inputs["cart_fen"])
    return {
        "pay_fen": taken.pay_fen,
        "share": pair(taken.share),
        "points": price("P-HR", inputs["offer"]).points,
    }


def a20(inputs: Vector) -> dict[str, object]:
    rates = {name: coalition.programmes()[name].rate for name in (CAR, HOTEL)}
    one = savings.at_par(inputs["points"], rates)
    twenty = points.earned(coalition.programmes()[HOTEL], nights=20, tier="金卡")
    return {
        "hotel_fen": one[HOTEL],
        "four_s_fen": one[CAR],
        "ratio": exact(Fraction(one[CAR], one[HOTEL])),
        "points_20_gold_nights_as_4s_fen": savings.at_par(twenty, rates)[CAR],
    }


def a21(inputs: Vector) -> dict[str, object]:
    longest = max(int(year) for year in re.findall(r"\d+", VECTORS["A21"]["claim"]))
    bought = date(2021, 11, 21)
    end = coalition.programmes()["P-QH"].expiry(bought)
    alive = end is None or business_day(end) > bought.replace(year=bought.year + longest)
    return {"min_years_alive": longest if alive else 0}


COMPUTE: dict[str, Compute] = {
    "A01": a01, "A02": a02, "A03": a03, "A04": a03, "A05": a05, "A06": a06, "A07": a07,
    "A08": a08, "A09": a09, "A10": a10, "A11": a11, "A12": a12, "A13": a13, "A14": a14,
    "A15": a15, "A16": a16, "A17": a17, "A18": a18, "A19": a19, "A20": a20, "A21": a21,
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
def test_a_claim_of_the_source_texts_computes_to_its_result(name: str) -> None:
    vector = VECTORS[name]
    assert COMPUTE[name](vector["inputs"]) == vector["result"]
