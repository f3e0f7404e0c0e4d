"""Plays the business day: every redemption and donation at its instant, each merchant's service
rendered the same day, and the cut of the window at midnight. All over HTTP, by outside clients.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from gateway.demo.show import points, yuan
from gateway.demo.world import World, asked_legs

Act = Callable[[datetime], Awaitable[None]]
SERVED_AFTER = timedelta(minutes=5)  # Where no slot says when.
CANCELLED_AT = {"red_D02": "2026-11-20T15:09:30+08:00"}
WINDOW = "win_2026W47"
CUT = "2026-11-21T00:00:00+08:00"


class Day:
    """The demo day: a list of things to do in order of time, to which what is booked adds."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ids: dict[str, str] = {}  # the document's label -> the gateway's id
        self.labels: dict[str, str] = {}
        self._due: list[tuple[datetime, int, Act]] = []

    async def play(self) -> None:
        """Play it from morning to midnight."""
        self.world.show.phase("演示日 2026-11-20", "the demo day")
        await self._price_tags()
        for row in self.world.expected["redemptions"]:
            self._at(row["committed_at"], partial(self._redeem, row))
        for row in self.world.expected["donations"]:
            self._at(row["donated_at"], partial(self._donate, row))
        while self._due:
            self._due.sort(key=lambda entry: entry[:2])
            at, _, act = self._due.pop(0)
            await act(await self.world.clock(at))
            self.world.show.step()
        await self._table()
        await self._claims()
        await self._cut()

    def _at(self, instant: str | datetime, act: Act) -> None:
        at = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
        self._due.append((at, len(self._due) + len(self.ids), act))

    async def _price_tags(self) -> None:
        """One cinema ticket in the points of a shop, a hotel and a 4S garage, side by side."""
        member = self.world.member("mbr_demo_01")
        text = (
            'query { offer(id: "XH-01") { nameZh cashFen prices(programmes:'
            ' ["P-LL", "P-YQ", "P-CA"]) { points formula programme { id nameZh unitZh } } } }'
        )
        offer = (await member.query(text))["offer"]
        rows = [
            (row["programme"]["nameZh"], points(row["points"], row["programme"]["unitZh"]),
             row["formula"])
            for row in offer["prices"]
        ]  # fmt: skip
        title = f"同一张票 the same ticket: {offer['nameZh']} {yuan(offer['cashFen'])}"
        self.world.show.table(
            ("积分 programme", ">价格 price", "怎么算 formula"), rows, title=title
        )
        found = {row["programme"]["id"]: row["points"] for row in offer["prices"]}
        self.world.show.same(
            "一票三价 one ticket, three prices", {"P-LL": 4500, "P-YQ": 2700, "P-CA": 450}, found
        )

    async def _redeem(self, row: Mapping[str, Any], now: datetime) -> None:
        """Quote, hold, confirm; and put the service, or the cancellation, on the list."""
        world, member = self.world, self.world.member(row["member"])
        asked: dict[str, Any] = {"offer": row["offer"], "quantity": row["quantity"]}
        asked |= {"legs": asked_legs(row["legs"])}
        asked |= {"slot": await world.slot(member, row["offer"], now)}
        asked |= {"cashFen": row["cash_fen"]} if row["cash_fen"] else {}
        quote = (await member.did("requestQuote", "quote { id }", **asked))["quote"]["id"]
        held = await member.did("holdRedemption", "redemption { id state }", quote=quote)
        red = held["redemption"]["id"]
        self.ids[row["id"]], self.labels[red] = red, row["id"]
        made = await member.did("confirmRedemption", "redemption { state }", redemption=red)
        if made["redemption"]["state"] != "COMMITTED":
            await world.reaches(member, red, "COMMITTED")
        if row["state"] == "CANCELLED":
            self._at(CANCELLED_AT[row["id"]], partial(self._cancel, row))
        elif row["state"] == "FULFILLED":
            starts = _start_of(asked["slot"])
            at = starts if starts and starts > now else now + SERVED_AFTER
            self._at(at, partial(self._serve, row))

    async def _serve(self, row: Mapping[str, Any], now: datetime) -> None:
        """The merchant serves what was booked, in its own system, which tells the gateway."""
        await self.world.control.fulfil(row["redeemer"], self.ids[row["id"]], now=now)

    async def _cancel(self, row: Mapping[str, Any], _now: datetime) -> None:
        """In two steps: what would come back, then yes."""
        member, red = self.world.member(row["member"]), self.ids[row["id"]]
        offered = await member.did(
            "requestCancellation", "cancelQuote { id refundable feeFen }", redemption=red
        )
        await member.did(
            "cancelRedemption",
            "redemption { state }",
            redemption=red,
            cancelQuote=offered["cancelQuote"]["id"],
        )
        await self.world.reaches(member, red, "CANCELLED")

    async def _donate(self, row: Mapping[str, Any], _now: datetime) -> None:
        member = self.world.member(row["member"])
        made = await member.did(
            "donatePoints",
            "donation { id state points faceFen matchedFen }",
            beneficiary=row["beneficiary"],
            programme=row["programme"],
            points=row["points"],
        )
        names = {"state": "state", "points": "points"}
        names |= {"face_fen": "faceFen", "match_fen": "matchedFen"}
        found = {ours: made["donation"][theirs] for ours, theirs in names.items()}
        wanted = {name: row[name] for name in names}
        self.ids[row["id"]] = made["donation"]["id"]
        self.world.show.same("捐赠 donation", wanted, found)

    async def _table(self) -> None:
        """Every redemption as its member sees it now, against the document."""
        world, rows, wrong = self.world, [], {}
        for row in sorted(world.expected["redemptions"], key=lambda row: str(row["committed_at"])):
            member = world.member(row["member"])
            seen = await world.reaches(member, self.ids[row["id"]], row["state"])
            found, wanted = _seen(seen), _wanted(row)
            if found != wanted:
                wrong[row["id"]] = (wanted, found)
            rows.append(_line(world, row, seen))
        columns = ("时间", "会员 member", "权益 offer", "商户 merchant", ">付了 paid", "状态 state")
        world.show.table(columns, rows)
        both = [row for row in rows if " + " in row[4]]
        for row in both:
            world.show.say(f"    一笔两付 paid in two ways: {row[2]} = {row[4]}")
        world.show.same(f"{len(rows)} 笔兑换 redemptions, not as planned", {}, wrong)

    async def _claims(self) -> None:
        """The obligations of the day: those matched with partners, and the fees."""
        world = self.world
        found = await world.obligations(day=world.expected["business_date"])
        fees = [row for row in found if "HUB_FEE" in (row["payer"], row["payee"])]
        matched = [row for row in found if row not in fees]
        columns = ("兑换", "类型 type", "付款方 payer", "收款方 payee", ">金额")
        shown = sorted((self._claim(row) for row in matched), key=lambda row: (row[0], row[1]))
        world.show.table(columns, [(*row[:4], yuan(row[4])) for row in shown])
        for title, rows, wanted in (
            ("应收应付 obligations", matched, world.expected["obligations"]),
            ("服务费 fees", fees, world.expected["fee_obligations"]),
        ):
            ours = Counter(self._claim(row) for row in rows)
            theirs = Counter(
                (row["redemption"], row["type"], row["payer"], row["payee"], row["amount_fen"])
                for row in wanted
            )
            world.show.same(f"{title}, {len(wanted)} 行 rows", _listed(theirs), _listed(ours))

    def _claim(self, row: Mapping[str, Any]) -> tuple[str, str, str, str, int]:
        label = self.labels.get(row["cause"], row["cause"])
        return label, row["type"], row["payer"], row["payee"], row["amountFen"]

    async def _cut(self) -> None:
        """Midnight: the worker closes the window, nets and publishes it."""
        world = self.world
        await world.clock(CUT)

        async def window() -> dict[str, Any]:
            text = "{ settlementWindows { edges { node { id state cutsAt } } } }"
            found = (await world.finance.query(text))["settlementWindows"]["edges"]
            return {edge["node"]["id"]: edge["node"]["state"] for edge in found}

        found = await world.until(window, lambda rows: rows.get(WINDOW) == "PUBLISHED", WINDOW)
        world.show.same("周六零点切账 the cut", "PUBLISHED", found[WINDOW])
        world.show.step()


def _start_of(slot: str | None) -> datetime | None:
    """When a slot that is named by its start begins."""
    if slot is None or "T" not in slot:
        return None
    return datetime.fromisoformat(slot)


def _wanted(row: Mapping[str, Any]) -> dict[str, Any]:
    legs = [
        [leg["programme"], leg["points"], leg["face_fen"], leg["own"], leg.get("agreement"),
         leg.get("settlement_fen", 0), leg.get("fee_fen", 0)]
        for leg in row["legs"]
    ]  # fmt: skip
    return {
        "state": row["state"],
        "list_fen": row["list_fen"],
        "cash_fen": row["cash_fen"],
        "legs": legs,
    }


def _seen(seen: Mapping[str, Any]) -> dict[str, Any]:
    legs = [
        [leg["programme"]["id"], leg["points"], leg["faceFen"], leg["own"], leg["agreement"],
         leg["settlementFen"], leg["feeFen"]]
        for leg in seen["legs"]
    ]  # fmt: skip
    return {
        "state": seen["state"],
        "list_fen": seen["listFen"],
        "cash_fen": seen["cashFen"],
        "legs": legs,
    }


def _line(world: World, row: Mapping[str, Any], seen: Mapping[str, Any]) -> tuple[str, ...]:
    paid = [points(leg["points"], world.units[leg["programme"]["id"]]) for leg in seen["legs"]]
    paid += [yuan(seen["cashFen"])] if seen["cashFen"] else []
    return (
        row["committed_at"][11:19],
        row["member"].removeprefix("mbr_"),
        f"{row['offer']} {world.offers[row['offer']]}",
        world.names[row["redeemer"]],
        " + ".join(paid),
        seen["state"],
    )


def _listed(rows: Counter[tuple[str, str, str, str, int]]) -> list[str]:
    return sorted(" ".join(map(str, row)) for row in rows.elements())
