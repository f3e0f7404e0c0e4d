"""The scene of a new merchant: from registration to its first sale, through GraphQL alone."""

from collections.abc import Mapping
from typing import Any

from joserfc.jwk import ECKey

from gateway.demo.world import REDEMPTION, World, asked_legs, spent

DISCLOSURE = {
    "accrualZh": "每消费 1 元积 1 面分",
    "validityZh": "终身有效",
    "limitsZh": "不可转让,不可兑换现金",
}
Step = Mapping[str, Any]


class NewMerchant:
    """M17 joins. Each method is one step of the document."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.show = world.show
        self.id = ""
        self._code = ""
        self._member = ""
        self._voucher = ""
        self._redemption = ""

    async def play(self, steps: list[Step]) -> None:
        """All steps in order."""
        acts = (
            self._registered,
            self._key,
            self._programme,
            self._budget,
            self._offer,
            self._conformance,
            self._agreement,
            self._new_member,
            self._earned,
            self._sold,
            self._verified,
        )
        for step, act in zip(steps, acts, strict=True):
            await self.world.clock(step["at"])
            self.show.same(step["do"], step["expect"], await act(step))

    async def _registered(self, step: Step) -> dict[str, Any]:
        given = step["input"]
        cover = given["cover"]
        made = await self.world.operator.did(
            "registerMerchant",
            "merchant { id } onboardingCode",
            id=given["id"],
            slug=given["slug"],
            nameZh=given["name_zh"],
            cities=given["cities"],
            market=given["market"],
            roles=given["roles"],
            cover={
                "collateralFen": cover["collateral_fen"],
                "netDebitCapFen": cover["net_debit_cap_fen"],
            },
            settlementAccount={"bankCode": "000000000017", "number": "DEMO-M17-0001"},
        )
        self.id, self._code = made["merchant"]["id"], made["onboardingCode"]
        return {"merchant": self.id, "onboarding_code": "one use, 72 h" if self._code else None}

    async def _key(self, step: Step) -> dict[str, Any]:
        """The code is used up by the first key; a second use is refused."""
        key = ECKey.generate_key("P-256", auto_kid=True)
        given = {"onboardingCode": self._code, "jwk": key.as_dict(private=False)}
        anonymous = self.world.anonymous()
        made = await anonymous.did("registerClientKey", "key { client kid }", **given)
        other = ECKey.generate_key("P-256", auto_kid=True).as_dict(private=False)
        again = await anonymous.refused("registerClientKey", **given | {"jwk": other})
        self.show.same("一次性 the code again", "ONBOARDING_CODE_INVALID", again["code"])
        self.world.merchant(self.id, key.as_dict(private=True))
        return {"client": made["key"]["client"].removeprefix("merchant-")}

    async def _programme(self, step: Step) -> dict[str, Any]:
        given = step["input"]
        made = await self.world.merchant(self.id).do(
            "publishProgrammePolicy",
            "programme { id validity }",
            programme=given["programme"],
            nameZh="知味积分",
            unitZh=given["unit_zh"],
            value={"num": given["value"]["num_fen"], "den": given["value"]["den_points"]},
            earn={"points": given["earn"]["points"], "perFen": given["earn"]["per_fen"]},
            disclosure=DISCLOSURE,
        )
        return {"errors": made["errors"]}

    async def _budget(self, step: Step) -> dict[str, Any]:
        """Proposed by one person, approved by another."""
        given = step["input"]
        proposed = await self.world.operator.did(
            "proposeBudget",
            "budget { id }",
            issuer=given["issuer"],
            year=given["year"],
            budgetFen=given["budget_fen"],
        )
        checker = self.world.staff("usr_operator_checker")
        made = await checker.did(
            "approveBudget", "budget { leftFen }", budget=proposed["budget"]["id"]
        )
        return {"left_fen": made["budget"]["leftFen"]}

    async def _offer(self, step: Step) -> dict[str, Any]:
        given = step["input"]
        made = await self.world.merchant(self.id).do(
            "publishOffer",
            "offer { id }",
            offer=given["offer"],
            nameZh=given["name_zh"],
            kind=given["kind"],
            category=given["category"],
            cashFen=given["cash_fen"],
            ownPoints=given["own_points"],
        )
        return {"errors": made["errors"]}

    async def _conformance(self, step: Step) -> dict[str, Any]:
        made = await self.world.merchant(self.id).did(
            "startConformanceRun", "run { passed failed skipped checks { id outcome detail } }"
        )
        for check in made["run"]["checks"]:
            self.show.say(f"    {check['outcome']:<4} {check['id']} {check['detail'] or ''}")
        return {"failed": made["run"]["failed"]}

    async def _agreement(self, step: Step) -> dict[str, Any]:
        """Proposed by the new merchant, signed by the issuer that will pay it."""
        given = step["input"]
        proposed = await self.world.merchant(self.id).did(
            "proposeAgreement",
            "agreement { id }",
            issuer=given["issuer"],
            redeemer=given["redeemer"],
            settlementBps=given["settlement_bps"],
            feeBps=given["fee_bps"],
            monthlyCapFen=given["monthly_cap_fen"],
            validFrom=given["valid_from"],
            validUntil=given["valid_until"],
        )
        made = await self.world.merchant(given["issuer"]).did(
            "signAgreement", "agreement { signedBy }", agreement=proposed["agreement"]["id"]
        )
        both = sorted(made["agreement"]["signedBy"]) == [given["issuer"], given["redeemer"]]
        return {"agreement": "signed by both" if both else made["agreement"]["signedBy"]}

    async def _new_member(self, step: Step) -> dict[str, Any]:
        given = step["input"]
        made = await self.world.merchant(self.id).did(
            "registerMember",
            "member { id }",
            partnerMemberRef=given["partner_member_ref"],
            consents=given["consents"],
        )
        self._member = made["member"]["id"]
        return {"member": "new" if self._member.startswith("mbr_") else self._member}

    async def _earned(self, step: Step) -> dict[str, Any]:
        given = step["input"]
        made = await self.world.merchant(self.id).did(
            "recordEarnEvent",
            "earning { points } available budgetLeftFen",
            member=self._member,
            order=given["order"],
            cashFen=given["cash_fen"],
            consumed=given["consumed"],
        )
        return {
            "points": made["earning"]["points"],
            "available": made["available"],
            "budget_left_fen": made["budgetLeftFen"],
        }

    async def _sold(self, step: Step) -> dict[str, Any]:
        """Another issuer's member buys there, once she has agreed to the pair."""
        member = self.world.member(step["member"])
        asked = {"offer": step["offer"], "legs": asked_legs(step["legs"])}
        without = await member.refused("redeemOffer", **asked)
        self.show.same("先要同意 consent first", "CONSENT_REQUIRED", without["code"])
        await member.did(
            "grantConsent", "consent { id }", purpose="partner_pair", issuer="M04",
            redeemer=self.id,
        )  # fmt: skip
        made = await member.did("redeemOffer", f"redemption {{ {REDEMPTION} }}", **asked)
        row = made["redemption"]
        self._redemption, self._voucher = row["id"], row["voucher"]["code"]
        return {
            "state": row["state"],
            "burned": spent(row),
            "available": {"P-LL": (await member.wallet("P-LL"))["available"]},
            "obligations": await self.world.claims(row["id"], step["expect"]["obligations"]),
        }

    async def _verified(self, step: Step) -> dict[str, Any]:
        """The till takes the voucher, once."""
        till = self.world.merchant(self.id)
        made = await till.did("verifyVoucher", "redemption { state }", code=self._voucher)
        again = await till.refused("verifyVoucher", code=self._voucher)
        self.show.same("只能用一次 the voucher again", "ALREADY_USED", again["code"])
        rows = await self.world.obligations(cause=self._redemption)
        windows = sorted({row["window"] for row in rows})
        return {"state": made["redemption"]["state"], "window": ",".join(windows)}
