"""People at the pages and the token endpoint: login, consent, PKCE, codes, refresh, revocation."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import sqlalchemy as sa

from gateway.db import Database
from gateway.oauth import keys, scopes, service, store
from gateway.oauth.guard import Unauthenticated
from gateway.oauth.scopes import Role
from tests.support.oauth import BACK, Browser, World, hidden, next_page, pkce, world

CONSOLE = service.STAFF_CONSOLE


@pytest.fixture
async def here(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with world(database, tmp_path) as made:
        yield made


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_gets_exactly_its_scopes(here: World, role: Role) -> None:
    user = await here.person("someone", role, limit_fen=70_000)
    browser = Browser(here, service.CLI)
    back = await browser.agree("someone")
    assert set(back) == {"code", "state", "iss"}
    assert (back["state"], back["iss"]) == ("s t&ate", here.base)
    answer = await browser.exchange(back["code"])
    merchant = "M04" if role is Role.PARTNER else None
    assert scopes.split(answer.json()["scope"]) == scopes.of(role, merchant)

    actor = await here.oauth.guard.authenticate(here.bearer(answer))
    assert (actor.subject, actor.role, actor.client_id) == (user.user_id, role, service.CLI)
    assert (actor.member_id, actor.merchant_id) == (user.member_id, user.merchant_id)
    assert (actor.scopes, actor.limit_fen) == (scopes.of(role, merchant), 70_000)


async def test_an_app_gets_what_it_asked_for_and_the_person_may_give(here: World) -> None:
    await here.person("lin")
    await here.person("mei", Role.FINANCE)
    browser = Browser(here, service.THIRD_PARTY)
    back = await browser.agree("lin", scope="points:read catalog:read")
    answer = await browser.exchange(back["code"])
    assert answer.json()["scope"] == "catalog:read points:read"

    refused = await browser.authorize(scope="points:read data:export")
    assert _called_back(refused)["error"] == "invalid_scope"
    assert _called_back(refused)["iss"] == here.base

    console = Browser(here, CONSOLE)
    back = await console.agree("mei", scope="finance:read operator:read")
    assert (await console.exchange(back["code"])).json()["scope"] == "finance:read"
    assert (await console.log_in("mei", scope="operator:read")).status_code == 403
    assert (await console.log_in("lin")).status_code == 403


def _called_back(answer: object) -> dict[str, str]:
    place = answer.headers["location"]
    assert answer.status_code == 303, place
    assert place.startswith(BACK)
    return dict(parse_qsl(urlsplit(place).query))


async def test_no_is_an_answer(here: World) -> None:
    await here.person("lin")
    back = await Browser(here).agree("lin", decision="deny")
    assert (back["error"], back["iss"], back["state"]) == ("access_denied", here.base, "s t&ate")
    assert "code" not in back


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:49152/callback/../x",
        "http://127.0.0.1:49152/callback?x=1",
        "http://127.0.0.1:49152/callback#x",
        "http://127.0.0.1:49152/other",
        "http://localhost:49152/callback",
        "http://127.0.0.1:49152@evil.test/callback",
        "http://127.0.0.1:x/callback",
        "http://127.0.0.1:/callback",
        "https://127.0.0.1:49152/callback",
        "http://evil.test/callback",
        'http://127.0.0.1:1/"',
        "",
        None,
    ],
)
async def test_a_redirect_uri_that_is_not_registered_gets_no_redirect(
    here: World, uri: str | None
) -> None:
    answer = await Browser(here).authorize(redirect_uri=uri)
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert "evil" not in answer.text


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"scope": "nonsense"}, "invalid_scope"),
    ],
)
async def test_a_wrong_request_is_told_to_the_app(
    here: World, change: dict[str, str | None], error: str
) -> None:
    back = _called_back(await Browser(here).authorize(**change))
    assert (back["error"], back["iss"], back["state"]) == (error, here.base, "s t&ate")


async def test_an_unknown_app_or_a_malformed_request_gets_a_page(here: World) -> None:
    browser = Browser(here)
    for change in ({"client_id": "nobody"}, {"client_id": None}, {"client_id": "x\x00"}):
        assert (await browser.authorize(**change)).status_code == 400
    assert (await browser.authorize(response_type='co"de')).status_code == 400
    assert (await browser.authorize(state="\x00")).status_code == 400
    assert (await browser.authorize(code_challenge="\x00" * 43)).status_code == 400
    link = f"{here.base}/oauth/authorize?client_id=member-app&client_id=member-app"
    assert (await browser.http.get(link)).status_code == 400


@pytest.mark.parametrize(
    ("change", "zh", "en"),
    [
        ({"client_id": "nobody"}, "应用未登记", "The app is not known"),
        ({"redirect_uri": "https://evil.test/"}, "回调地址未登记", "not registered"),
        (
            {"response_type": None, "redirect_uri": None, "client_id": None},
            "response_type 须为 code",
            "The response_type must be code.",
        ),
    ],
)
async def test_the_page_says_what_is_wrong_in_both_languages(
    here: World, change: dict[str, str | None], zh: str, en: str
) -> None:
    text = (await Browser(here).authorize(**change)).text
    assert zh in text
    assert en in text


async def test_a_code_needs_its_verifier_its_app_and_its_redirect_uri(here: World) -> None:
    await here.person("lin")
    browser = Browser(here)
    for change in (
        {"code_verifier": pkce()[0]},
        {"code_verifier": None},
        {"code_verifier": browser.challenge},
        {"redirect_uri": "http://127.0.0.1:1/callback"},
        {"redirect_uri": None},
        {"client_id": service.CLI},
        {"code": "x"},
        {"code": None},
    ):
        code = (await browser.agree("lin"))["code"]
        answer = await browser.exchange(**({"code": code} | change))
        assert answer.status_code == 400, change
        assert answer.json()["error"] in ("invalid_grant", "invalid_request"), change
    code = (await browser.agree("lin"))["code"]
    stranger = await browser.exchange(code, client_id="nobody")
    assert (stranger.status_code, stranger.json()["error"]) == (401, "invalid_client")
    assert (await browser.exchange(code)).status_code == 200


async def test_a_code_lives_a_minute(here: World) -> None:
    await here.person("lin")
    browser = Browser(here)
    code = (await browser.agree("lin"))["code"]
    here.later = timedelta(seconds=61)
    assert (await browser.exchange(code)).json()["error"] == "invalid_grant"


async def test_of_twenty_exchanges_of_one_code_one_gets_a_token_and_it_is_revoked(
    here: World,
) -> None:
    await here.person("lin")
    browser = Browser(here)
    code = (await browser.agree("lin"))["code"]
    answers = await asyncio.gather(*(browser.exchange(code) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 19
    (won,) = [answer for answer in answers if answer.status_code == 200]
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(here.bearer(won))
    assert (await browser.refresh(won.json()["refresh_token"])).status_code == 400


async def test_refresh_tokens_rotate_and_a_reused_one_ends_the_grant(here: World) -> None:
    await here.person("lin")
    browser = Browser(here)
    first = (await browser.exchange((await browser.agree("lin"))["code"])).json()
    asked_more = await browser.refresh(first["refresh_token"], scope="finance:read")
    assert asked_more.json()["error"] == "invalid_scope"
    answer = await browser.refresh(first["refresh_token"], scope="points:read")
    second = answer.json()
    assert second["scope"] == "points:read"
    assert second["refresh_token"] != first["refresh_token"]
    await here.oauth.guard.authenticate(here.bearer(answer))

    reused = await browser.refresh(first["refresh_token"])
    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
    assert (await browser.refresh(second["refresh_token"])).json()["error"] == "invalid_grant"
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(here.bearer(answer))


async def test_of_twenty_uses_of_one_refresh_token_one_works(here: World) -> None:
    await here.person("lin")
    browser = Browser(here)
    token = (await browser.exchange((await browser.agree("lin"))["code"])).json()["refresh_token"]
    answers = await asyncio.gather(*(browser.refresh(token) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 19


async def test_a_refresh_token_is_for_its_app_and_its_time(here: World) -> None:
    await here.person("lin")
    browser = Browser(here)
    token = (await browser.exchange((await browser.agree("lin"))["code"])).json()["refresh_token"]
    other = await Browser(here, service.CLI).refresh(token)
    assert other.json()["error"] == "invalid_grant"
    here.later = timedelta(days=29)
    token = (await browser.refresh(token)).json()["refresh_token"]
    here.later = timedelta(days=31)
    assert (await browser.refresh(token)).json()["error"] == "invalid_grant"


async def test_someone_shut_out_stays_out(here: World) -> None:
    await here.person("lin")
    browser = Browser(here)
    answer = await browser.exchange((await browser.agree("lin"))["code"])
    await here.oauth.guard.authenticate(here.bearer(answer))
    async with here.oauth.database.transaction() as tx:
        await service.disable_member(tx, member_id="mbr_lin", now=here.now())
    here.oauth.guard.revocations.forget()
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(here.bearer(answer))
    assert (await browser.refresh(answer.json()["refresh_token"])).status_code == 400
    assert (await browser.log_in("lin")).status_code == 403


async def test_revocation_kills_ones_own_tokens_at_once(here: World) -> None:
    await here.person("lin")
    browser, other = Browser(here), Browser(here, service.CLI)
    answer = await browser.exchange((await browser.agree("lin"))["code"])
    token, bearer = answer.json()["access_token"], here.bearer(answer)
    url = f"{here.base}/oauth/revoke"

    for client_id, given, status in (
        (other.client_id, token, 400),  # Another app's.
        (browser.client_id, "garbage", 200),
        (browser.client_id, token[:-4] + "AAAA", 200),
    ):
        fields = {"token": given, "client_id": client_id, "token_type_hint": "nonsense"}
        assert (await here.http.post(url, data=fields)).status_code == status
        await here.oauth.guard.authenticate(bearer)
    assert (await here.http.post(url, data={"token": token})).status_code == 401

    fields = {"token": token, "client_id": browser.client_id}
    assert (await here.http.post(url, data=fields)).status_code == 200
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(bearer)

    renewed = await browser.refresh(answer.json()["refresh_token"])
    await here.oauth.guard.authenticate(here.bearer(renewed))
    fields = {"token": renewed.json()["refresh_token"], "client_id": browser.client_id}
    assert (await here.http.post(url, data=fields)).status_code == 200
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(here.bearer(renewed))


async def test_forms_without_their_token_or_browser_are_refused(here: World) -> None:
    await here.person("lin")
    browser, stranger = Browser(here), Browser(here)
    begun = await browser.authorize()
    form = await browser.http.get(next_page(begun))
    good = hidden(form.text) | {"login": "lin", "password": "右边的月亮-7"}
    assert (await stranger.http.get(next_page(begun))).status_code == 403
    assert (await stranger.http.post("/oauth/login", data=good)).status_code == 403
    for wrong in ({"csrf": ""}, {"csrf": "x"}, {"csrf": "é"}, {"login_id": "lgn_x"}):
        assert (await browser.http.post("/oauth/login", data=good | wrong)).status_code == 403
    without = {name: value for name, value in good.items() if name != "csrf"}
    assert (await browser.http.post("/oauth/login", data=without)).status_code == 403

    early = {**hidden(form.text), "decision": "allow"}
    assert "login" in (await browser.http.post("/oauth/consent", data=early)).headers["location"]
    assert (await browser.http.post("/oauth/login", data=good)).status_code == 303
    consent = {**hidden(form.text), "decision": "allow"}
    refused = await browser.http.post("/oauth/consent", data=consent | {"csrf": "x"})
    assert refused.status_code == 403
    assert (await browser.http.post("/oauth/consent", data=consent)).status_code == 303
    assert (await browser.http.post("/oauth/consent", data=consent)).status_code == 403


async def test_the_pages_are_plain_closed_and_speak_chinese_first(here: World) -> None:
    await here.person("lin")
    browser = Browser(here)
    form = await browser.http.get(next_page(await browser.authorize()))
    consent = await browser.http.get(next_page(await browser.log_in("lin")))
    for answer in (form, consent):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; script-src 'none'")
        assert answer.headers["cache-control"] == "no-store"
        assert 'lang="zh-CN"' in answer.text
        assert "http://" not in answer.text
        assert "<script" not in answer.text
    assert "form-action 'self' http://127.0.0.1:49152" in consent.headers["content-security-policy"]
    assert "使用、捐赠和退回您的积分" in consent.text
    assert "spend, donate and take back your points" in consent.text
    style = await browser.http.get("/oauth/style.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "HttpOnly" in (await Browser(here).authorize()).headers["set-cookie"]


async def test_five_wrong_passwords_a_minute_and_no_more(here: World) -> None:
    await here.person("lin")
    browser = Browser(here)
    for _ in range(5):
        assert (await browser.log_in("lin", "wrong")).status_code == 403
    stopped = await browser.log_in("lin")
    assert stopped.status_code == 429
    assert 1 <= int(stopped.headers["retry-after"]) <= 60
    assert (await browser.log_in("mei")).status_code == 429  # The address has used its tries.
    here.later = timedelta(seconds=61)
    for _ in range(7):
        assert (await browser.log_in("LIN ")).status_code == 303  # A right one is no try.


async def test_no_login_name_breaks_the_form(here: World) -> None:
    browser = Browser(here)
    for name in ("x\x00y", "'; --", "林" * 5_000):
        assert (await browser.log_in(name)).status_code == 403


async def test_tokens_outlive_the_rotation_of_keys_but_not_their_end(here: World) -> None:
    await here.person("lin")
    browser = Browser(here)
    old = await browser.exchange((await browser.agree("lin"))["code"])
    before = await _kids(here)
    async with here.oauth.database.transaction() as tx:
        await keys.rotate(tx, here.oauth.vault, token_seconds=600, now=here.now())
    after = await _kids(here)
    assert (len(before), len(after), len(before & after)) == (2, 3, 2)
    new = await browser.refresh(old.json()["refresh_token"])
    for answer in (old, new):
        await here.oauth.guard.authenticate(here.bearer(answer))
    here.later = timedelta(seconds=721)
    assert len(await _kids(here)) == 2
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(here.bearer(old))


async def test_keys_are_rotated_when_their_life_is_over_by_one_of_many(here: World) -> None:
    settings = replace(here.oauth.settings, key_rotation_days=90)

    async def chore() -> bool:
        async with here.oauth.database.transaction() as tx:
            return await service.rotate_due(tx, here.oauth.vault, settings=settings, now=here.now())

    assert not await chore()
    first = await _kids(here)
    here.later = timedelta(days=90)
    assert sorted(await asyncio.gather(*(chore() for _ in range(3)))) == [False, False, True]
    second = await _kids(here)
    assert (len(second), len(first & second)) == (3, 2)  # retired, active and next
    here.later = timedelta(days=179)
    assert not await chore()
    here.later = timedelta(days=180)
    assert await chore()
    assert len((await _kids(here)) & first) == 1


async def _kids(here: World) -> set[str]:
    answer = (await here.http.get(f"{here.base}/oauth/jwks")).json()["keys"]
    assert not any("d" in key for key in answer)
    return {key["kid"] for key in answer}


async def test_keys_and_tokens_outlive_a_restart(
    here: World, database: Database, tmp_path: Path
) -> None:
    kids = await _kids(here)
    await here.oauth.start()
    async with world(database, tmp_path) as again:
        assert await _kids(again) == kids
    assert (tmp_path / "vault.key").stat().st_mode & 0o777 == 0o600


async def test_housekeeping_deletes_only_what_is_over(here: World) -> None:
    await here.person("lin")
    browser = Browser(here)
    answer = await browser.exchange((await browser.agree("lin"))["code"])
    here.later = timedelta(days=2)
    async with here.oauth.database.transaction() as tx:
        await service.sweep(tx, now=here.now())
    assert (await browser.refresh(answer.json()["refresh_token"])).status_code == 200
    here.later = timedelta(days=40)
    async with here.oauth.database.transaction() as tx:
        await service.sweep(tx, now=here.now())
        for table in (store.codes, store.refresh_tokens, store.logins, store.tries):
            assert await tx.scalar(sa.select(sa.func.count()).select_from(table)) == 0


async def test_no_secret_is_in_what_is_printed_or_stored(here: World, tmp_path: Path) -> None:
    await here.person("lin")
    secret = await here.with_secret("sandbox-M05")
    browser = Browser(here)
    code = (await browser.agree("lin"))["code"]
    answer = (await browser.exchange(code)).json()
    async with here.oauth.database.reading() as tx:
        active = await tx.run_sync(here.oauth.ring.active)
        stored = []
        for name in store.metadata.tables:
            if name.startswith("oauth_"):
                as_stored = sa.text(f"SELECT * FROM {name}")  # noqa: S608 - a table of ours
                stored += [str(row) for row in await tx.execute(as_stored)]
    private = active.as_dict(private=True)["d"]
    master = (tmp_path / "vault.key").read_text()
    whole = "\n".join(stored)
    for canary in (secret, code, answer["refresh_token"], answer["access_token"], private):
        assert canary not in whole
    shown = repr(here.oauth.vault) + repr(here.oauth.settings) + repr(vars(here.oauth))
    assert master not in whole + shown
    assert "右边的月亮" not in whole
