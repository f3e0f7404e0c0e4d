"""`gateway access`: who may call, for the hour in which a key or a password has leaked."""

from typing import Annotated

import typer

from gateway.cli.terminal import AsJson, load, print_rows, read_settings, run

app = typer.Typer(help="Who may call: clients, their keys, people.", no_args_is_help=True)

Client = Annotated[str, typer.Argument(help="as in merchant-M04")]


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
