"""Merchants and members: registered once, let in once, related only by what they did."""

import asyncio
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Database
from gateway.errors import AlreadyRegistered, NotFound, Refused
from gateway.members import service as members
from gateway.members.model import (
    PARTNER_PAIR,
    AgeRestricted,
    ConsentRequired,
    Member,
    pseudonym,
)
from gateway.merchants import service as merchants
from gateway.merchants.model import Merchant
from gateway.values import InvalidInput
from tests.support.issuers import NOW


async def invite(tx: AsyncConnection, id: str = "M17", **changes: Any) -> tuple[Merchant, str]:
    given: dict[str, Any] = {"id": id, "slug": id.lower(), "name_zh": "面馆", "name_en": "Noodles"}
    given |= {"category": "noodles", "cities": ["上海"], "market": "T1-2", "code_hours": 72}
    given |= {"roles": ["issuer", "redeemer"], "now": NOW}
    return await merchants.register(tx, **(given | changes))


async def join(tx: AsyncConnection, **changes: Any) -> Member:
    given: dict[str, Any] = {"name_zh": "张伟", "city": "杭州", "now": NOW}
    given |= {"consents": [{"purpose": "service"}], "merchant_id": "M04"}
    return await members.register(tx, **(given | changes))


async def test_an_onboarding_code_works_once_and_in_time(database: Database) -> None:
    async with database.transaction() as tx:
        merchant, code = await invite(tx)
        _, late = await invite(tx, "M18")
        assert merchant == await merchants.get(tx, "M17")
        assert await merchants.use_onboarding_code(tx, code=code, now=NOW) == "M17"
        for bad, at in ((code, NOW), (late, NOW + timedelta(hours=72)), ("onb_x", NOW)):
            with pytest.raises(merchants.OnboardingCodeInvalid):
                await merchants.use_onboarding_code(tx, code=bad, now=at)


async def test_merchants_are_found_by_what_they_are(database: Database) -> None:
    async with database.transaction() as tx:
        await invite(tx, "M01", roles=["issuer", "operator"], operator={"brand_zh": "红米好物"})
        await invite(tx, "M17")
        await invite(tx, "M18", cities=["全国"], category="airline")
        with pytest.raises(AlreadyRegistered):
            await invite(tx, "M19", slug="m17")
        with pytest.raises(NotFound):
            await merchants.get(tx, "M99")

        assert [one.id for one in await merchants.find(tx, category="airline")] == ["M18"]
        assert [one.id for one in await merchants.find(tx, city="杭州")] == ["M18"]
        assert [one.id for one in await merchants.find(tx, roles=["redeemer"])] == ["M17", "M18"]
        assert (await merchants.operator(tx)).operator == {"brand_zh": "红米好物"}
        assert (await merchants.operator(tx)).settlement_account is None

        await merchants.pause(tx, id="M17", paused=True)
        await merchants.leave(tx, id="M17", exited_on=date(2026, 12, 1))
        known = await merchants.get_many(tx, ["M17", "M99"])
        assert [(one.paused, one.exited_on) for one in known.values()] == [
            (True, date(2026, 12, 1))
        ]
        with pytest.raises(NotFound):
            await merchants.pause(tx, id="M99", paused=True)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"partner_member_ref": "c-1"}, AlreadyRegistered),
        ({"member_id": "mbr_1"}, AlreadyRegistered),
        ({"birth_on": date(2012, 11, 21)}, AgeRestricted),
        ({"consents": [{"purpose": "all"}]}, InvalidInput),
        ({"consents": [{"purpose": "partner_pair", "issuer": "M04"}]}, InvalidInput),
        ({"consents": [{"purpose": "service", "issuer": "M04"}]}, InvalidInput),
    ],
)
async def test_a_registration_is_refused(
    database: Database, changes: dict[str, Any], refusal: type[Refused]
) -> None:
    async with database.transaction() as tx:
        await join(tx, member_id="mbr_1", partner_member_ref="c-1")
    with pytest.raises(refusal):
        async with database.transaction() as tx:
            await join(tx, **changes)


async def test_a_reference_is_unique_at_one_merchant_only(database: Database) -> None:
    async with database.transaction() as tx:
        mine = await join(tx, partner_member_ref="c-1")
        other = await join(tx, partner_member_ref="c-1", merchant_id="M05")
        ask = {"partner_member_ref": "c-1"}
        assert await members.by_reference(tx, merchant_id="M05", **ask) == other.id
        assert await members.related(tx, mine.id, "M04")
        assert not await members.related(tx, mine.id, "M05")
        for _ in range(2):
            await members.relate(tx, mine.id, "M05")
        assert await members.related(tx, mine.id, "M05")
        assert await members.get_many(tx, [mine.id, "mbr_x"]) == {mine.id: mine}


async def test_a_consent_given_many_times_at_once_is_one(database: Database) -> None:
    async with database.transaction() as tx:
        await invite(tx, "M04")
        member = await join(tx)
    pair = {"purpose": "partner_pair", "issuer": "M04", "redeemer": "M05"}

    async def grant() -> str:
        async with database.transaction() as tx:
            return await members.grant_consent(tx, member_id=member.id, now=NOW, **pair)

    assert len(set(await asyncio.gather(*(grant() for _ in range(10))))) == 1


async def test_a_merchant_knows_of_a_member_by_dealings_or_a_consent(database: Database) -> None:
    async with database.transaction() as tx:
        mine = (await join(tx)).id

        async def known() -> set[str]:
            return {one for one in ("M04", "M05", "M06") if await members.known_at(tx, mine, one)}

        assert await known() == {"M04"}
        pair = {"purpose": PARTNER_PAIR, "issuer": "M05", "redeemer": "M06"}
        given = await members.grant_consent(tx, member_id=mine, **pair, now=NOW)
        assert await known() == {"M04", "M05", "M06"}
        assert not await members.known_at(tx, "mbr_other", "M06")
        await members.revoke_consent(tx, consent_id=given, member_id=mine, now=NOW)
        assert await known() == {"M04"}


async def test_a_pair_of_merchants_needs_its_own_consent(database: Database) -> None:
    async with database.transaction() as tx:
        member = await join(tx, birth_on=date(2012, 11, 20))
        pair: dict[str, Any] = {"member_id": member.id, "issuer": "M04", "redeemer": "M05"}
        ask = pair | {"programme": "P-LL", "now": NOW}
        with pytest.raises(ConsentRequired) as missing:
            await members.require_pair_consent(tx, **ask)
        assert missing.value.context["purpose"] == "partner_pair"
        assert missing.value.context["redeemer"] == "M05"
        assert missing.value.context["consent_text"]

        given = await members.grant_consent(tx, purpose="partner_pair", now=NOW, **pair)
        assert given == await members.grant_consent(tx, purpose="partner_pair", now=NOW, **pair)
        await members.require_pair_consent(tx, **ask)
        with pytest.raises(ConsentRequired):
            await members.require_pair_consent(tx, **(ask | {"redeemer": "M06"}))

        revoke: dict[str, Any] = {"consent_id": given, "now": NOW + timedelta(hours=1)}
        with pytest.raises(NotFound):
            await members.revoke_consent(tx, member_id="mbr_other", **revoke)
        for _ in range(2):
            await members.revoke_consent(tx, member_id=member.id, **revoke)
        await members.require_pair_consent(tx, **ask)
        with pytest.raises(ConsentRequired):
            await members.require_pair_consent(tx, **(ask | {"now": NOW + timedelta(hours=1)}))
        assert [consent.purpose for consent in await members.consents(tx, member.id)] == [
            "service",
            "partner_pair",
        ]


async def test_tiers_are_kept_by_programme(database: Database) -> None:
    async with database.transaction() as tx:
        member = await join(tx, tiers={"P-YQ": "银卡"}, dates={"wedding_anniversary": "12-12"})
        await members.set_tier(tx, member_id=member.id, programme_id="P-YQ", tier="金卡")
        assert (await members.get(tx, member.id)).tiers == {"P-YQ": "金卡"}
        with pytest.raises(NotFound):
            await members.set_tier(tx, member_id="mbr_x", programme_id="P-YQ", tier="金卡")


def test_two_merchants_cannot_join_their_names_of_a_member() -> None:
    names = {pseudonym(b"secret", merchant, "mbr_1") for merchant in ("M04", "M05")}
    assert len(names) == 2
    assert all(name.startswith("pm_") for name in names)
    assert pseudonym(b"other", "M04", "mbr_1") not in names
