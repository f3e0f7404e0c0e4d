"""`gateway access` beside a running server: who is ended in the terminal is out at once."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import typer.testing

from gateway.cli import access, app
from gateway.db import Database
from gateway.oauth import service
from gateway.oauth.guard import Unauthenticated
from gateway.oauth.scopes import Role
from tests.support.oauth import Browser, World, p256, world

PASSWORD = "月亮在右边,不在左边-7"


@pytest.fixture
async def here(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with world(database, tmp_path) as made:
        made.oauth.guard.revocations._patience = 0  # A second, and that is the promise.
        yield made


@pytest.fixture
def run(database_url: str):
    """A command in a thread of its own, on this database."""

    async def command(*words: str) -> typer.testing.Result:
        env = {"GATEWAY_DATABASE_URL": database_url}
        invoke = typer.testing.CliRunner().invoke
        return await asyncio.to_thread(invoke, app, ["access", *words], env=env)

    return command


def merchant(said: typer.testing.Result) -> dict[str, str]:
    """M04 among the clients that are listed; the others are people's apps."""
    (found,) = (each for each in json.loads(said.output) if each["client"] == "merchant-M04")
    return found


async def test_a_leaked_key_is_revoked_and_the_new_one_goes_on(here: World, run) -> None:
    old, new = await here.merchant("M04"), await here.merchant("M04", p256())
    mine = merchant(await run("clients", "--json"))
    assert (mine["merchant"], mine["keys"].split()) == ("M04", [old.kid, new.kid])
    said = await run("revoke-key", "merchant-M04", old.kid)
    assert said.exit_code == 0
    assert said.output == f"{old.kid} is revoked; tokens got with it end within 600 seconds\n"
    assert (await here.machine(old)).status_code == 401
    assert (await here.machine(new)).status_code == 200
    mine = merchant(await run("clients", "--json"))
    assert mine["keys"] == new.kid


async def test_an_ended_client_is_out_with_the_tokens_it_has(here: World, run) -> None:
    key = await here.merchant("M04")
    had = here.bearer(await here.machine(key))
    assert (await run("end", "merchant-M04")).exit_code == 0
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(had)
    assert (await here.machine(key)).status_code == 401
    mine = merchant(await run("clients", "--json"))
    assert mine["ended"]
    again = await run("end", "merchant-M04")
    assert again.exit_code == 2
    assert again.output.startswith("NOT_FOUND: 没有找到 merchant-M04")


async def test_a_person_is_shut_out_with_the_tokens_they_have(here: World, run) -> None:
    await here.person("lin", Role.FINANCE, limit_fen=1)
    browser = Browser(here, service.CLI)
    answer = await browser.exchange((await browser.agree("lin"))["code"])
    assert (await here.oauth.guard.authenticate(here.bearer(answer))).role == Role.FINANCE
    assert (await run("shut-out", " LIN ")).exit_code == 0
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(here.bearer(answer))
    refreshed = await here.token(
        grant_type="refresh_token",
        refresh_token=answer.json()["refresh_token"],
        client_id=service.CLI,
    )
    assert refreshed.status_code == 400
    assert (await run("shut-out", "lin")).exit_code == 2


async def test_what_is_unknown_is_told_and_changes_nothing(here: World, run) -> None:
    key = await here.merchant("M04")
    for words in (
        ("end", "merchant-M99"),
        ("revoke-key", "merchant-M04", "kid-of-nobody"),
        ("revoke-key", "merchant-M04", "-u_2fBq"),
        ("revoke-key", "merchant-M05", key.kid),
        ("shut-out", "nobody"),
    ):
        said = await run(*words)
        assert (said.exit_code, "NOT_FOUND" in said.output) == (2, True), words
    assert (await here.machine(key)).status_code == 200


@pytest.fixture
def said(database_url: str):
    """A command in a thread of its own, with lines on its standard input."""

    async def command(*words: str, given: str = "") -> typer.testing.Result:
        env = {"GATEWAY_DATABASE_URL": database_url, "GATEWAY_MODE": "live"}
        invoke = typer.testing.CliRunner().invoke
        return await asyncio.to_thread(invoke, app, ["access", *words], env=env, input=given)

    return command


async def test_the_first_operator_is_added_and_logs_in(here: World, said) -> None:
    words = ("add-person", " Wang ", "--role", "operator", "--name", "王运营")
    added = await said(*words, given=f"{PASSWORD}\n")
    assert added.exit_code == 0, added.output
    assert added.output.endswith("logs in as wang, operator\n")
    people = ("--role", "operator", "--role", "finance", "--name", "工作台")
    made = await said("add-app", "console", "--redirect", "http://127.0.0.1/callback", *people)
    assert made.exit_code == 0, made.output
    browser = Browser(here, "console")
    answer = await browser.exchange((await browser.agree("wang", password=PASSWORD))["code"])
    caller = await here.oauth.guard.authenticate(here.bearer(answer))
    assert (caller.role, added.output.split()[0]) == (Role.OPERATOR, caller.subject)
    again = await said(*words, given=f"{PASSWORD}\n")
    assert (again.exit_code, "ALREADY_REGISTERED" in again.output) == (2, True)


async def test_who_cannot_be_added_is_told_why(here: World, said) -> None:
    name = ("--name", "某人")
    for words, given, why in (
        (("--role", "operator", *name), "short\n", "12 to 256 characters"),
        (("--role", "operator", *name), "", "12 to 256 characters"),
        (("--role", "operator", "--name", " "), f"{PASSWORD}\n", "1 to 80 characters"),
        (("--role", "partner", *name), f"{PASSWORD}\n", "with the role partner"),
        (
            ("--role", "operator", "--merchant", "M04", *name),
            f"{PASSWORD}\n",
            "with the role partner",
        ),
        (("--role", "partner", "--merchant", "M99", *name), f"{PASSWORD}\n", "NOT_FOUND"),
        (("--role", "member", *name), f"{PASSWORD}\n", "member"),
    ):
        found = await said("add-person", "x", *words, given=given)
        assert (found.exit_code, why in " ".join(found.output.split())) == (2, True), found.output
    for uri in ("http://shop.example/back", "http://127.0.0.1.evil.example/", "https://", "x"):
        words = ("--redirect", uri, "--role", "operator", *name)
        found = await said("add-app", "console", *words)
        assert (found.exit_code, "INVALID_INPUT" in found.output) == (2, True), found.output


def test_the_roles_of_people_are_those_of_the_scopes() -> None:
    assert {*access.Role} == {*Role} - {Role.MEMBER}


def test_a_password_is_asked_for_twice_at_a_terminal(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def prompt(what: str, **given: object) -> str:
        asked.append((what, given))
        return PASSWORD

    monkeypatch.setattr(access, "_at_a_terminal", lambda: True)
    monkeypatch.setattr(typer, "prompt", prompt)
    words = ["access", "add-person", "wang", "--role", "operator", "--name", "王"]
    env = {"GATEWAY_DATABASE_URL": database_url}
    assert typer.testing.CliRunner().invoke(app, words, env=env).exit_code == 0
    assert asked == [("password", {"hide_input": True, "confirmation_prompt": True})]


def test_people_need_a_migrated_database(empty_database_url: str) -> None:
    words = ["access", "add-person", "wang", "--role", "operator", "--name", "王"]
    env = {"GATEWAY_DATABASE_URL": empty_database_url}
    found = typer.testing.CliRunner().invoke(app, words, env=env, input=f"{PASSWORD}\n")
    assert (found.exit_code, "gateway db upgrade" in found.output) == (1, True)
