"""Plays finance's Monday: settle the window between two people, and reconcile the day.

Settlement: proposed, refused to its own proposer, approved by another person; the bank's file;
each merchant is told through its own API and signs that it has seen its legs. Reconciliation: every
merchant's statement is pulled; what does not fit is named, and one break is resolved.
"""

import asyncio
import csv
import hashlib
import io
from collections.abc import Mapping
from typing import Any

from gateway.demo.clients import Person
from gateway.demo.day import WINDOW, Day
from gateway.demo.show import in_yuan, yuan
from gateway.demo.world import World

T_PLUS_1 = "2026-11-21T14:05:00+08:00"
MONDAY = "2026-11-23T09:30:00+08:00"
_SIDES = "sides { role merchant noticedAt acknowledgedAt }"
_SETTLEMENT = (
    "id state netHash totalFen bankCsvUrl bankCsvSha256"
    f" legs {{ id payer payee amountFen {_SIDES} }}"
)
_BREAK = (
    "id code merchant ref oursFen theirsFen amountFen state hypothesisZh hypothesisEn"
    " resolutions { id state }"
)
_RUN = (
    "id state oursCount oursFen theirsCount theirsFen balancedCount breakCount breakFen"
    " merchants { merchant balanced delivered oursCount oursFen theirsCount theirsFen breaks }"
    f" breaks {{ {_BREAK} }}"
)


class Finance:
    """Two people of finance at work, and every merchant's own system."""

    def __init__(self, world: World, day: Day) -> None:
        self.world = world
        self.show = world.show
        self.labels = day.labels
        self.expected: Mapping[str, Any] = world.expected["expected"]
        self.maker: Person = world.finance
        self.checker = world.staff("usr_fin_checker")

    async def play(self) -> None:
        """Reconcile on the next day, settle on Monday."""
        self.show.phase("对账", "reconciliation")
        await self.world.clock(T_PLUS_1)
        run = await self._reconcile()
        await self._resolve(run)
        self.show.phase("结算", "settlement")
        await self.world.clock(MONDAY)
        await self._positions()
        settlement = await self._approve(await self._propose())
        await self._bank_file(settlement)
        await self._told(settlement["id"])
        await self._acknowledged(settlement["id"])

    # -- reconciliation ---------------------------------------------------------------------------

    async def _reconcile(self) -> dict[str, Any]:
        """Pull 16 statements and match them; compare with what was planted."""
        day = self.world.expected["business_date"]
        made = await self.maker.did(
            "startReconciliationRun", f"run {{ {_RUN} }} undelivered {{ merchant code }}", day=day
        )
        run: dict[str, Any] = made["run"]
        self.show.same("对账单都到了 statements missing", [], made["undelivered"])
        self._statements(run)
        self._breaks(run)
        self.show.step()
        return run

    def _statements(self, run: Mapping[str, Any]) -> None:
        """What each merchant says, by count and sum."""
        wanted = {
            row["merchant"]: [row["trailer"]["count"], yuan(row["trailer"]["sum_fen"])]
            for row in self.world.expected["statements"]
        }
        found = {
            row["merchant"]: [row["theirsCount"], yuan(row["theirsFen"])]
            for row in run["merchants"]
        }
        self.show.same(f"{len(wanted)} 家对账单 statements: 笔数与金额", wanted, found)
        population = {
            "ours": run["oursCount"],
            "theirs": run["theirsCount"],
            "ours_sum_fen": run["oursFen"],
            "theirs_sum_fen": run["theirsFen"],
            "sums_of": "statement_fen",
        }
        self.show.same("两边总数 population", self.expected["population"], population)
        unbalanced = sorted(row["merchant"] for row in run["merchants"] if not row["balanced"])
        balanced = sum(row["balanced"] for row in run["merchants"])
        self.show.same("平的商户 balanced", self.expected["merchants_balanced"], balanced)
        self.show.same("有差异的商户", self.expected["merchants_with_breaks"], unbalanced)

    def _breaks(self, run: Mapping[str, Any]) -> None:
        rows, found = [], []
        for row in run["breaks"]:
            label = self.labels.get(row["ref"] or "", row["ref"])
            why = f"{row['hypothesisZh']}\n{row['hypothesisEn']}".replace(row["ref"] or " ", label)
            rows.append((row["code"], self.world.names[row["merchant"]], str(label),
                         yuan(row["oursFen"]), yuan(row["theirsFen"]), yuan(row["amountFen"]),
                         why))  # fmt: skip
            found.append(
                {"code": row["code"], "redemption": label, "merchant": row["merchant"],
                 "amount_fen": row["amountFen"], "ours_fen": row["oursFen"],
                 "theirs_fen": row["theirsFen"]}
            )  # fmt: skip
        columns = ("差异 break", "商户", "兑换", ">我方 ours", ">对方 theirs", ">差额", "推测 why")
        self.show.table(columns, rows)
        wanted = sorted(self.expected["breaks"], key=lambda row: str(row["redemption"]))
        found.sort(key=lambda row: str(row["redemption"]))
        named = [
            {name: row[name] for name in want} for row, want in zip(found, wanted, strict=False)
        ]
        self.show.same(f"正是埋下的 {len(wanted)} 处差异 the planted breaks", wanted, named)
        self.show.same("没有别的 no others", len(wanted), len(found))
        total = yuan(self.expected["break_total_fen"])
        self.show.same("差异合计 total", total, yuan(run["breakFen"]))

    async def _resolve(self, run: Mapping[str, Any]) -> None:
        """The amount that differs is settled as billed: proposed by one, approved by another."""
        (row,) = [row for row in run["breaks"] if row["code"] == "AMOUNT_DIFF"] or [None]
        if row is None:
            return
        proposed = await self.maker.did(
            "proposeBreakResolution",
            "resolution { id state amountFen flows { payer payee fen } }",
            breakId=row["id"],
            action="ACCEPT_THEIRS",
            note="影院当日票价为 46.00 元,按对方金额结算",
        )
        resolution = proposed["resolution"]["id"]
        own = await self.maker.refused("approveBreakResolution", resolution=resolution)
        self.show.same("提出的人不能自己批 own approval", "FOUR_EYES_REQUIRED", own["code"])
        made = await self.checker.did(
            "approveBreakResolution",
            "resolution { state approvedBy journal amountFen }",
            resolution=resolution,
        )
        approved = made["resolution"]
        again = await self.maker.query(
            f"query($id: ID!) {{ reconciliationRun(id: $id) {{ breaks {{ {_BREAK} }} }} }}",
            id=run["id"],
        )
        states = [each["state"] for each in again["reconciliationRun"]["breaks"]]
        found = {
            "resolution": approved["state"],
            "by": approved["approvedBy"],
            "posted": approved["journal"] is not None,
            "open": sum(state not in ("CLOSED", "WRITTEN_OFF") for state in states),
        }
        wanted = {"resolution": "APPROVED", "by": "usr_fin_checker", "posted": True}
        wanted |= {"open": len(self.expected["breaks"]) - 1}
        self.show.same(f"一处差异四眼处理 resolved by two: {row['code']}", wanted, found)
        self.show.step()

    # -- settlement -------------------------------------------------------------------------------

    async def _positions(self) -> None:
        """The window's net: who is owed, who owes; and what rests on the agreements."""
        text = (
            "{ settlementWindows { edges { node { id state count sumFen netHash"
            " positions { party fen } } } } }"
        )
        edges = (await self.maker.query(text))["settlementWindows"]["edges"]
        window = next(edge["node"] for edge in edges if edge["node"]["id"] == WINDOW)
        positions = {row["party"]: row["fen"] for row in window["positions"] if row["fen"]}
        rows = [(party, self.world.names.get(party, "平台服务费"), yuan(fen))
                for party, fen in sorted(positions.items())]  # fmt: skip
        self.show.table(
            ("", "参与方 party", ">净额 net"), rows, title=f"{WINDOW} {window['state']}"
        )
        wanted = in_yuan(self.expected["net_positions_fen"])
        self.show.same("净额 net positions", wanted, in_yuan(positions))
        self.show.same("合计为零 they sum to", yuan(0), yuan(sum(positions.values())))
        rows_found = await self.world.obligations(window=WINDOW)
        fees = [row for row in rows_found if "HUB_FEE" in (row["payer"], row["payee"])]
        total = sum(
            row["amountFen"] if row["payee"] == "HUB_FEE" else -row["amountFen"] for row in fees
        )
        self.show.same("服务费行数 fee rows", self.expected["fee_rows"], len(fees))
        self.show.same("服务费合计 fees", yuan(self.expected["fees_total_fen"]), yuan(total))
        for agreement, months in self.expected["agreement_used_fen_after"].items():
            issuer = agreement.split("_")[1]
            for month, fen in months.items():
                used = await self._used(agreement, issuer, month)
                shown = None if used is None else yuan(used)
                self.show.same(f"{agreement} {month} 已用 used", yuan(fen), shown)

    async def _used(self, agreement: str, issuer: str, month: str) -> int | None:
        text = (
            "query($after: String, $merchant: ID!, $month: String!) { agreements(merchant:"
            " $merchant, first: 100, after: $after) { edges { node { id use(month: $month)"
            " { usedFen } } } pageInfo { hasNextPage endCursor } } }"
        )
        rows = await self.maker.rows(text, "agreements", merchant=issuer, month=month)
        return next((row["use"]["usedFen"] for row in rows if row["id"] == agreement), None)

    async def _propose(self) -> dict[str, Any]:
        made = await self.maker.did(
            "proposeSettlement", f"settlement {{ {_SETTLEMENT} }}", window=WINDOW
        )
        proposed: dict[str, Any] = made["settlement"]
        legs = {(row["payer"], row["payee"]): row["amountFen"] for row in proposed["legs"]}
        wanted = {
            (row["payer"], row["payee"]): row["fen"] for row in self.expected["bilateral_payments"]
        }
        rows = [(self._name(payer), self._name(payee), yuan(fen))
                for (payer, payee), fen in sorted(legs.items())]  # fmt: skip
        self.show.table(("付款方 payer", "收款方 payee", ">金额"), rows)
        self.show.same(f"{len(wanted)} 笔双边净额付款 bilateral payments",
                       _sorted(wanted), _sorted(legs))  # fmt: skip
        return proposed

    async def _approve(self, proposed: Mapping[str, Any]) -> dict[str, Any]:
        """Not by the one who proposed; by another person, who names the hash of what she saw."""
        asked = {"settlement": proposed["id"], "netHash": proposed["netHash"]}
        own = await self.maker.refused("approveSettlement", **asked)
        self.show.same("提出的人不能自己批 own approval", "FOUR_EYES_REQUIRED", own["code"])
        self.show.say(f"    {own['message']} → {own['nextStep']}")
        made = await self.checker.did(
            "approveSettlement", f"settlement {{ {_SETTLEMENT} }}", **asked
        )
        self.show.same("批准 approved", "INSTRUCTED", made["settlement"]["state"])
        self.show.step()
        approved: dict[str, Any] = made["settlement"]
        return approved

    async def _bank_file(self, settlement: Mapping[str, Any]) -> None:
        """The bank's file has every payment once, and is the one whose hash was published."""
        text = await self.checker.download(settlement["bankCsvUrl"])
        rows = list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"))))
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.show.same("银行文件 bank CSV: 付款笔数", len(settlement["legs"]), len(rows))
        self.show.same("银行文件哈希 its hash", settlement["bankCsvSha256"], digest)

    async def _told(self, settlement_id: str) -> None:
        """The worker tells each side through the merchant's own API."""

        async def untold() -> int:
            return sum(not side["noticedAt"] for side in await self._sides(settlement_id))

        await self.world.until(untold, lambda number: number == 0, "settlement notices")
        sides = len(await self._sides(settlement_id))
        self.show.same(f"{sides} 份结算通知已送达 notices delivered, left", 0, await untold())
        self.show.step()

    async def _acknowledged(self, settlement_id: str) -> None:
        """Each merchant signs what it was told, with its own client and key."""
        sides = await self._sides(settlement_id)
        merchants = sorted({side["merchant"] for side in sides})
        await asyncio.gather(*(self._signs(merchant, settlement_id) for merchant in merchants))
        self.show.step()
        left = sum(not side["acknowledgedAt"] for side in await self._sides(settlement_id))
        title = f"{len(merchants)} 家商户签名确认 acknowledged by signature, left"
        self.show.same(title, 0, left)
        text = "query($id: ID!) { settlement(id: $id) { state legs { state } } }"
        found = (await self.maker.query(text, id=settlement_id))["settlement"]
        booked = sum(leg["state"] == "BOOKED" for leg in found["legs"])
        payments = len(self.expected["bilateral_payments"])
        wanted = {"settlement": "SETTLED", "booked": payments}
        self.show.same("款项已到 paid", wanted, {"settlement": found["state"], "booked": booked})

    async def _signs(self, merchant_id: str, settlement_id: str) -> None:
        """One merchant reads its legs and acknowledges each."""
        merchant = self.world.merchant(merchant_id)
        text = (
            "query($after: String, $settlement: ID!) { settlementLegs(filter: {settlement:"
            " $settlement}, first: 100, after: $after) { edges { node { id toSign } }"
            " pageInfo { hasNextPage endCursor } } }"
        )
        for leg in await merchant.rows(text, "settlementLegs", settlement=settlement_id):
            await merchant.did(
                "acknowledgeSettlementLeg",
                "leg { id }",
                leg=leg["id"],
                signature=merchant.sign(leg["toSign"]),
            )

    async def _sides(self, settlement_id: str) -> list[dict[str, Any]]:
        text = f"query($id: ID!) {{ settlement(id: $id) {{ legs {{ {_SIDES} }} }} }}"
        found = (await self.maker.query(text, id=settlement_id))["settlement"]
        return [side for leg in found["legs"] for side in leg["sides"]]

    def _name(self, party: str) -> str:
        return f"{party} {self.world.names.get(party, '平台服务费')}"


def _sorted(payments: Mapping[tuple[str, str], int]) -> list[str]:
    return sorted(f"{payer} → {payee} {yuan(fen)}" for (payer, payee), fen in payments.items())
