"""Plays the scenes after the cut: what goes wrong in a coalition, and how it ends.

Each scene follows its entry in the demo day's document step by step; every `expect` is compared.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gateway.demo.joining import NewMerchant
from gateway.demo.supervisor import Stage
from gateway.demo.world import REDEMPTION, World, asked_legs, spent
from gateway.values import SHANGHAI

STORIES = {
    "scene_ride": "两种积分付一程车;车费低于预估,差额按后付先退回到原来的批次。"
    " Two issuers pay a ride; what the final fare saves goes back to the same lots.",
    "scene_in_doubt": "出票成功而答复丢失:积分先冻结,不扣也不退;worker 查询后才扣。"
    " The answer is lost: points stay held, neither spent nor returned, until the cinema says.",
    "scene_flight": "航空公司取消航班:里程回到原批次(至少 90 天有效),另由其补偿预算补偿 20 %。"
    " The airline cancels: miles return to their lots, and its own budget compensates.",
    "scene_refusals": "每个拒绝都有代码、数字和下一步,中英文;什么都没有改变。"
    " Each refusal has a code, numbers and a next step; nothing changes.",
    "scene_partner_down": "影院系统断线:目录照常,只多一条提示;它的票报错,别家照买。"
    " One partner is down: the catalog answers with a warning, all others go on selling.",
    "scene_new_merchant": "第 17 家商户:登记、密钥、积分、预算、权益、协议、核销,全凭 GraphQL。"
    " A seventeenth merchant joins and sells its first voucher through GraphQL alone.",
}
_LOTS = "{ me { wallets { programme { id } available held lots { ref basis left expiresAt } } } }"
COMPENSATION = "COMPENSATION"


class Scenes:
    """The scenes in the document's order. The business clock goes back where a scene ended later
    than the next one begins: only a sandbox can do that.
    """

    def __init__(self, world: World, stage: Stage) -> None:
        self.world = world
        self.show = world.show
        self.stage = stage
        self._plays = {
            "scene_ride": self._ride,
            "scene_in_doubt": self._in_doubt,
            "scene_flight": self._flight,
            "scene_refusals": self._refusals,
            "scene_partner_down": self._partner_down,
            "scene_new_merchant": NewMerchant(world).play,
        }

    async def play(self) -> None:
        """Play all of them."""
        for scene in self.world.expected["scenes"]:
            english = scene["id"].removeprefix("scene_").replace("_", " ")
            self.show.phase(scene["title_zh"], english)
            self.show.say(f"  [italic]{STORIES[scene['id']]}[/]")
            await self._plays[scene["id"]](scene["steps"])
            self.show.step()

    async def _ride(self, steps: list[Mapping[str, Any]]) -> None:
        """The final fare is below the estimate: the difference goes back to the same lots."""
        world, (quoting, holding, ending, again) = self.world, steps
        member = world.member(quoting["member"])
        await world.clock(quoting["at"])
        asked = {"offer": quoting["offer"], "slot": quoting["slot"], "quantity": 1}
        wanted = (
            "quote { id listFen cashFen legs { points faceFen own settlementFen feeFen"
            " programme { id } } }"
        )
        quote = (
            await member.did("requestQuote", wanted, **asked, legs=asked_legs(quoting["legs"]))
        )["quote"]
        self._same("报价 quote", quoting, _quoted(quote, quoting["expect"]))

        await world.clock(holding["at"])
        held = await member.did("holdRedemption", "redemption { id }", quote=quote["id"])
        red = held["redemption"]["id"]
        await member.did("confirmRedemption", "redemption { state }", redemption=red)
        made = await world.reaches(member, red, "COMMITTED")
        found = {"state": made["state"], "burned": spent(made)}
        found |= await self._claims(red, holding["expect"])
        self._same("异步确认 confirmed later", holding, found)

        now, fare = await world.clock(ending["at"]), ending["final_fare_fen"]
        before = await world.claims(red)
        await world.control.fulfil("M07", red, now=now, final_fare_fen=fare)
        made = await world.reaches(member, red, "FULFILLED")
        found = await self._after_fare(red, made, before, ending["expect"])
        self._same("行程结束 the trip's end", ending, found)

        now, left = await world.clock(again["at"]), await self._traces(red)
        await world.control.fulfil("M07", red, now=now, final_fare_fen=fare)
        await world.delivered("M07")
        effect = "none" if await self._traces(red) == left else "some"
        self._same("再通知一次 told again", again, {"effect": effect})

    async def _after_fare(
        self, red: str, made: Mapping[str, Any], before: list[Any], expect: Mapping[str, Any]
    ) -> dict[str, Any]:
        kinds = {row["kind"] for row in await self.world.journals(red)}
        returned = {leg["programme"]["id"]: leg["returnedPoints"] for leg in made["legs"]}
        claims = await self.world.claims(red, expect["obligations"])
        return {
            "state": made["state"],
            "journal": "FARE_ADJUST" if "FARE_ADJUST" in kinds else None,
            "returned": returned,
            "kept": spent(made),
            "obligations": [row for row in claims if row not in before],
        }

    async def _in_doubt(self, steps: list[Mapping[str, Any]]) -> None:
        """The ticket is printed, the answer is lost: points stay held until the cinema says so."""
        world, (asking, polled, again) = self.world, steps
        member = world.member(asking["member"])
        await world.clock(asking["at"])
        self.stage.stop_worker()
        asked = {"offer": asking["offer"], "slot": asking["slot"], "quantity": 1}
        quote = await member.did(
            "requestQuote", "quote { id }", **asked, legs=asked_legs(asking["legs"])
        )
        held = await member.did("holdRedemption", "redemption { id }", quote=quote["quote"]["id"])
        red, key = held["redemption"]["id"], f"confirm-{held['redemption']['id']}"
        lost = await member.do(
            "confirmRedemption", "redemption { state }", redemption=red, idempotencyKey=key
        )
        found = {"state": lost["redemption"]["state"], "errors": lost["errors"]}
        found |= await self._balances(member.login, asking["expect"])
        self._same("没有答复 no answer", asking, found)

        self.stage.start_worker()
        made = await world.reaches(member, red, "COMMITTED")
        bookings = (await world.control.state("M05"))["bookings"]
        tickets = [row for row in bookings if row["gateway_ref"] == red]
        found = {"state": made["state"], "vouchers": len(tickets) if made["voucher"] else 0}
        found |= {"burned": spent(made)} | await self._claims(red, polled["expect"])
        found |= await self._balances(member.login, polled["expect"])
        self._same("worker 查询后 after asking the status", polled, found)

        left = await self._traces(red)
        replay = await member.did(
            "confirmRedemption", "redemption { state }", redemption=red, idempotencyKey=key
        )
        found = {"replayed": replay["replayed"], "state": replay["redemption"]["state"]}
        effect = "none" if await self._traces(red) == left else "some"
        found |= {"effect": effect}
        self._same("同一幂等键再确认 confirmed again", again, found)

    async def _flight(self, steps: list[Mapping[str, Any]]) -> None:
        """The airline cancels: miles go back to their lots, and its own budget compensates."""
        world, (booking, cancelling) = self.world, steps
        member = world.member(booking["member"])
        await world.clock(booking["at"])
        first = await self._lots(member.login, "P-YT")
        made = await member.did(
            "redeemOffer",
            f"redemption {{ {REDEMPTION} }}",
            offer=booking["offer"],
            slot=booking["slot"],
            quantity=1,
            legs=asked_legs(booking["legs"]),
        )
        row = made["redemption"]
        then = await self._lots(member.login, "P-YT")
        taken = [[ref, first[ref][0] - then.get(ref, (0,))[0]] for ref in first]
        found = {
            "state": row["state"],
            "burned": spent(row),
            "lots": [pair for pair in taken if pair[1]],
        } | await self._claims(row["id"], booking["expect"])
        found |= await self._balances(member.login, booking["expect"])
        self._same("订票 booked", booking, found)

        budgeted = await self._budget("M11")
        now = await world.clock(cancelling["at"])
        await world.control.cancel("M11", row["id"], now=now)
        seen = await world.reaches(member, row["id"], "CANCELLED")
        await world.delivered("M11")
        found = await self._after_cancellation(row["id"], member.login, then, budgeted)
        found |= {"state": seen["state"]} | await self._claims(row["id"], cancelling["expect"])
        found |= await self._balances(member.login, cancelling["expect"])
        self._same("航班取消,通知两次 cancelled, told twice", cancelling, found)

    async def _after_cancellation(
        self,
        red: str,
        login: str,
        before: Mapping[str, tuple[int, str, str]],
        budgeted: Mapping[str, int],
    ) -> dict[str, Any]:
        """What came back to which lot, and what the compensation is."""
        after = await self._lots(login, "P-YT")
        journals = await self.world.journals(red)
        budget = await self._budget("M11")
        charged = {
            account.rpartition(":")[2]: abs(balance - budgeted[account])
            for account, balance in budget.items()
            if balance != budgeted[account]
        }
        (slice_, budget_fen), *_ = charged.items() or [(None, 0)]
        returned = [
            {"lot": ref, "points": left - before.get(ref, (0,))[0], "expires_at": expires}
            for ref, (left, expires, basis) in after.items()
            if basis != COMPENSATION and left != before.get(ref, (0,))[0]
        ]
        extra = [row for row in after.values() if row[2] == COMPENSATION]
        left, expires, _ = extra[0] if extra else (0, "", "")
        return {
            "times": sum(row["kind"] == "REVERSE" for row in journals),
            "returned": returned,
            "compensation": {
                "programme": "P-YT",
                "points": left,
                "expires_at": expires,
                "slice": slice_,
                "budget_fen": budget_fen,
            },
        }

    async def _budget(self, issuer: str) -> dict[str, int]:
        """What is available of an issuer's budget, by account."""
        text = "query($book: String!) { trialBalance(book: $book) { account balance } }"
        rows = (await self.world.finance.query(text, book=f"BUDGET:{issuer}"))["trialBalance"]
        return {
            row["account"]: row["balance"]
            for row in rows
            if row["account"].startswith("BUDGET_AVAIL")
        }

    async def _refusals(self, steps: list[Mapping[str, Any]]) -> None:
        """A refusal names its numbers and the next step, in both languages; nothing changes."""
        rows = []
        for step in steps:
            member, expect = self.world.member(step["member"]), step["expect"]
            await self.world.clock(step["at"])
            before = await self._lots_of_all(step["member"])
            asked: dict[str, Any] = {"offer": step["offer"], "quantity": step.get("quantity", 1)}
            asked |= {"legs": [dict(leg) for leg in step["legs"]]}
            asked |= {"billFen": step["bill_fen"]} if "bill_fen" in step else {}
            asked |= {"cashFen": step["cash_fen"]} if "cash_fen" in step else {}
            error = await member.refused("requestQuote", **asked)
            member.language = "en"
            english = await member.refused("requestQuote", **asked)
            member.language = "zh"
            found = {name: error["context"].get(name) for name in expect["context"]}
            unchanged = await self._lots_of_all(step["member"]) == before
            self.show.same(
                f"{step['offer']} → {expect['code']}",
                {"code": expect["code"], "context": expect["context"], "unchanged": True},
                {"code": error["code"], "context": found, "unchanged": unchanged},
            )
            rows.append((error["code"], f"{error['message']}\n{english['message']}",
                         f"{error['nextStep']}\n{english['nextStep']}"))  # fmt: skip
        self.show.table(("代码 code", "说明 message", "下一步 next step"), rows)

    async def _partner_down(self, steps: list[Mapping[str, Any]]) -> None:
        """A partner that does not answer costs a warning, and only what is its own."""
        world, (looking, failing, other) = self.world, steps
        member = world.member(looking["member"])
        await member.did(
            "grantConsent", "consent { id }", purpose="partner_pair", issuer="M04", redeemer="M05"
        )
        await world.control.stop("M05")
        try:
            await world.clock(looking["at"])
            text = (
                '{ offers(filter: {city: "上海"}, first: 60) { edges { node { id nameZh'
                " live { left } merchant { nameZh } } } } warnings { merchant code message } }"
            )
            answer = await member.post(text, {})
            nodes = [edge["node"] for edge in answer["data"]["offers"]["edges"]]
            warned = answer["data"]["warnings"]
            found = {
                "warnings": [{name: row[name] for name in ("merchant", "code")} for row in warned],
                "live_quote": {row["id"]: row["live"] for row in nodes if row["id"] == "XH-01"},
                "errors": answer.get("errors", []),
            }
            live = sum(row["live"] is not None for row in nodes)
            self.show.say(f"  {len(nodes)} 个权益 offers, {live} 个有实时报价 with a live quote")
            self.show.say(f"  {warned[0]['message'] if warned else ''}")
            self._same("目录照常 the catalog", looking, found)

            await world.clock(failing["at"])
            asked = {"offer": failing["offer"], "legs": [dict(leg) for leg in failing["legs"]]}
            asked |= {"cashFen": failing["cash_fen"]}
            error = await member.refused("requestQuote", **asked)
            found = {"code": error["code"]}
            found |= {"context": {"merchant": error["context"].get("merchant")}}
            found |= await self._balances(member.login, failing["expect"])
            self._same("它的票暂时买不了 its own tickets", failing, found)

            await world.clock(other["at"])
            made = await member.did(
                "redeemOffer",
                f"redemption {{ {REDEMPTION} }}",
                offer=other["offer"],
                legs=asked_legs(other["legs"]),
            )
            row = made["redemption"]
            found = {"state": row["state"], "burned": spent(row)}
            found |= await self._claims(row["id"], other["expect"])
            found |= await self._balances(member.login, other["expect"])
            self._same("别家照常 others go on", other, found)
        finally:
            await world.control.start("M05")

    def _same(self, title: str, step: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        self.show.same(title, step["expect"], dict(found))

    async def _claims(self, red: str, expect: Mapping[str, Any]) -> dict[str, Any]:
        return {"obligations": await self.world.claims(red, expect["obligations"])}

    async def _balances(self, login: str, expect: Mapping[str, Any]) -> dict[str, Any]:
        """Available and held points, for the programmes that are expected."""
        found: dict[str, Any] = {}
        for name in ("available", "held"):
            if name in expect:
                member = self.world.member(login)
                found[name] = {
                    programme: (await member.wallet(programme))[name] for programme in expect[name]
                }
        return found

    async def _lots(self, login: str, programme: str) -> dict[str, tuple[int, str, str]]:
        """A member's lots of a programme: what is left, when it expires, its basis; by ref."""
        wallets = (await self._lots_of_all(login))["me"]["wallets"]
        lots = next(row["lots"] for row in wallets if row["programme"]["id"] == programme)
        return {
            row["ref"]: (row["left"], _local(row["expiresAt"]), row["basis"])
            for row in sorted(lots, key=lambda row: row["expiresAt"] or "9")
        }

    async def _lots_of_all(self, login: str) -> dict[str, Any]:
        return await self.world.member(login).query(_LOTS)

    async def _traces(self, red: str) -> tuple[int, int]:
        """How many journals and obligations a redemption has left."""
        journals, claims = await self.world.journals(red), await self.world.claims(red)
        return len(journals), len(claims)


def _quoted(quote: Mapping[str, Any], expect: Mapping[str, Any]) -> dict[str, Any]:
    """A quote in the document's words, as far as it is expected."""
    names = {"points": "points", "face_fen": "faceFen", "own": "own"}
    names |= {"settlement_fen": "settlementFen", "fee_fen": "feeFen"}
    legs = [
        {"programme": leg["programme"]["id"]}
        | {ours: leg[theirs] for ours, theirs in names.items() if ours in wanted}
        for leg, wanted in zip(quote["legs"], expect["legs"], strict=True)
    ]
    return {"list_fen": quote["listFen"], "legs": legs, "cash_fen": quote["cashFen"]}


def _local(instant: str | None) -> str:
    """An instant as Shanghai's clocks show it, to the minute: the clock runs during a step."""
    if instant is None:
        return ""
    local = datetime.fromisoformat(instant).astimezone(SHANGHAI)
    return local.replace(second=0, microsecond=0).isoformat()
