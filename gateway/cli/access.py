"""`gateway access`: who may call. For the first start in production, and for the hour of a leak."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from gateway.cli.terminal import AsJson, load, print_rows, read_settings, run

app = typer.Typer(help="Who may call: clients, their keys, people.", no_args_is_help=True)

Client = Annotated[str, typer.Argument(help="as in merchant-M04")]


class Role(StrEnum):
    """Who logs in by a name of their own; members come with their merchants."""

    FINANCE = "finance"
    OPERATOR = "operator"
    COMPLIANCE = "compliance"
    REGULATOR = "regulator"
    PARTNER = "partner"


@app.command("add-person")
def add_person(
    login: Annotated[str, typer.Argument(help="the name they log in by")],
    role: Annotated[Role, typer.Option(help="what they may do")],
    name: Annotated[str, typer.Option(help="as others see it")],
    merchant: Annotated[str | None, typer.Option(help="whose staff, with --role partner")] = None,
    limit_fen: Annotated[
        int, typer.Option(min=0, help="the amount up to which they may approve")
    ] = 0,
) -> None:
    """Add a person who logs in. The password is asked for, or the first line of standard input."""
    settings = read_settings()
    if _at_a_terminal():
        password = typer.prompt("password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    work = load("gateway.operations.access").add_person(
        settings,
        login=login,
        password=password,
        role=load("gateway.oauth.scopes").Role(role),
        name_zh=name,
        merchant_id=merchant,
        limit_fen=limit_fen,
    )
    typer.echo(f"{run(work)} logs in as {login.strip().casefold()}, {role}")


@app.command("add-app")
def add_app(
    client: Annotated[str, typer.Argument(help="its id, as in staff-console")],
    redirect: Annotated[list[str], typer.Option(help="where it takes the code; may be repeated")],
    role: Annotated[list[Role], typer.Option(help="who may log in; may be repeated")],
    name: Annotated[str, typer.Option(help="as people see it")],
    name_en: Annotated[str, typer.Option(help="the same in English")] = "",
) -> None:
    """Add an app that people log in to, by code and PKCE, without a secret."""
    roles = load("gateway.oauth.scopes").Role
    work = load("gateway.operations.access").add_app(
        read_settings(),
        client_id=client,
        name_zh=name,
        name_en=name_en,
        redirect_uris=redirect,
        roles=[roles(each) for each in role],
    )
    run(work)
    typer.echo(f"people log in to {client}")


@app.command("clients")
def list_clients(as_json: AsJson = False) -> None:
    """List clients with the keys that count, also those that are ended."""
    rows = run(load("gateway.operations.access").clients(read_settings()))
    names = ("client", "name", "role", "merchant", "keys", "ended")
    print_rows(names, rows, as_json=as_json)


@app.command("end")
def end_client(client: Client) -> None:
    """End a client for good: no new tokens, and those it has are refused at once."""
    run(load("gateway.operations.access").end_client(read_settings(), client))
    typer.echo(f"{client} is ended; its tokens are refused")


# A key's name may begin with a hyphen.
@app.command("revoke-key", context_settings={"ignore_unknown_options": True})
def revoke_key(client: Client, kid: Annotated[str, typer.Argument(help="its key")]) -> None:
    """Let no assertion and no signature by a client's key count any more."""
    settings = read_settings()
    run(load("gateway.operations.access").revoke_key(settings, client, kid))
    seconds = settings.access_token_seconds
    typer.echo(f"{kid} is revoked; tokens got with it end within {seconds} seconds")


@app.command("shut-out")
def shut_out(login: Annotated[str, typer.Argument(help="the name they log in by")]) -> None:
    """Shut a person out: no login, no refresh, and their tokens are refused at once."""
    run(load("gateway.operations.access").shut_out(read_settings(), login))
    typer.echo(f"{login} is shut out; their tokens are refused")


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()
