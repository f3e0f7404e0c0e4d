"""`gateway`: one function per operator task. Reads settings, owns what it opens.

A task is a command function that reads its settings through `read_settings`, runs its asynchronous
part through `asyncio.run`, and ends with an exit code: 0 ok, 1 a check failed, 2 usage, 3 a
remote failed.
"""

import asyncio
import errno
import json
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import access, databases, federation
from gateway.cli.terminal import (
    CHECK_FAILED,
    REMOTE_FAILED,
    USAGE,
    AsJson,
    err,
    load,
    out,
    print_rows,
    progress,
    read_settings,
    run,
)

if TYPE_CHECKING:
    from gateway.settings import Settings

app = typer.Typer(
    name="gateway",
    help="A partner federation gateway for loyalty coalitions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
database_app = typer.Typer(help="The database's schema.", no_args_is_help=True)
app.add_typer(database_app, name="db")
schema_app = typer.Typer(help="The GraphQL schema.", no_args_is_help=True)
app.add_typer(schema_app, name="schema")
audit_app = typer.Typer(help="The audit chain: evidence of what was done.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
clock_app = typer.Typer(help="The sandbox's business clock.", no_args_is_help=True)
app.add_typer(clock_app, name="clock")

events_app = typer.Typer(help="Events and their webhooks.", no_args_is_help=True)
app.add_typer(events_app, name="events")
app.add_typer(federation.app, name="federation")
app.add_typer(access.app, name="access")
app.command()(federation.router)


def main() -> None:
    """The console script."""
    if sys.argv[1:2] != ["router"]:  # It loads nothing of the product, and logs by itself.
        load("gateway.telemetry").log_uncaught()
    app()


@app.command()
def version() -> None:
    """Print the version."""
    out.print(installed_version("coalition-gateway"), highlight=False)


@app.command()
def settings(as_json: AsJson = False) -> None:
    """Print every setting as it is now. Passwords in URLs are hidden."""
    shown = {
        f"GATEWAY_{name.upper()}": value
        for name, value in load("gateway.settings").shown(read_settings()).items()
    }
    print_rows(("setting", "value"), list(shown.items()), as_json=as_json)


@app.command()
def errors(as_json: AsJson = False) -> None:
    """Print every error code with what it says in Chinese and English."""
    docgen = load("gateway.docgen")
    rows = [(leaf.code, docgen.kind_of(leaf), leaf.zh, leaf.en) for leaf in docgen.leaves()]
    print_rows(("code", "kind", "zh", "en"), rows, as_json=as_json)


@app.command()
def docs(
    check: Annotated[bool, typer.Option("--check", help="only compare; exit 1 if stale")] = False,
    root: Annotated[Path, typer.Option(help="the repository")] = Path(),
) -> None:
    """Write the generated pages of docs/, or check that they are true."""
    docgen, command = load("gateway.docgen"), typer.main.get_command(app)
    if not check:
        docgen.write(root, command)
        return
    found = docgen.stale(root, command)
    if found:
        err.print(f"not up to date: {', '.join(found)}; run `make docs`")
        raise typer.Exit(CHECK_FAILED)
    out.print("Generated docs are up to date.")


@app.command()
def serve(
    descriptor: Annotated[
        int | None, typer.Option("--fd", help="listen on this inherited socket, start nothing else")
    ] = None,
) -> None:
    """Serve. Without GATEWAY_DATABASE_URL: seeded, with worker and partner stand-ins."""
    settings, serving = read_settings(), load("gateway.demo.serving")
    alone = descriptor is not None or not settings.embedded
    try:
        if alone:
            given = {"descriptor": descriptor, "announce": _print_lines}
            databases.start(lambda: serving.plain(settings, **given))
        else:
            databases.start(lambda: serving.embedded(settings, announce=_print_lines))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        taken = f"{settings.host}:{settings.port} is in use"
        err.print(f"{taken}: GATEWAY_PORT=0 takes a free port", highlight=False)
        raise typer.Exit(USAGE) from error


@app.command()
def worker() -> None:
    """Run the worker alone: recovery, jobs, windows, feeds."""
    settings, working = read_settings(), load("gateway.demo.working")
    databases.start(lambda: working.work(settings))


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="leave it running at the end")] = False,
    expect: Annotated[
        Path | None, typer.Option(help="a demo day to play and compare with; ours by default")
    ] = None,
) -> None:
    """Play the coalition's day and check every figure; exit 1 if one differs.

    With GATEWAY_DATABASE_URL it plays on that database, which must be empty.
    """
    settings = read_settings()
    document = json.loads(expect.read_text(encoding="utf-8")) if expect else None
    if not load("gateway.demo.play").run(settings, document, keep=keep):
        raise typer.Exit(CHECK_FAILED)


@app.command()
def simulators() -> None:
    """Run the partners' stand-ins of <home> alone, until stopped."""
    load("gateway.demo.sandboxed").run_simulators(read_settings())


@app.command()
def token(
    who: Annotated[str, typer.Argument(help="a login, as in mbr_lina, or a merchant, as in M05")],
    key: Annotated[
        Path | None,
        typer.Option(help="a merchant's private JWK; the sandbox's by default", exists=True),
    ] = None,
) -> None:
    """Print an access token of somebody in the sandbox, got as any client gets one."""
    typer.echo(run(load("gateway.demo.tokens").token(read_settings(), who, key=key)))


@app.command()
def invariants(as_json: AsJson = False) -> None:
    """Check every invariant that SQL can see; exit 1 if one does not hold."""
    url, checks = read_settings().url, load("gateway.demo.audit")
    found = databases.run(lambda: checks.check(url), url=url)
    rows = [(each.id, "ok" if each.ok else "BROKEN", each.title, each.detail) for each in found]
    print_rows(("id", "verdict", "invariant", "detail"), rows, as_json=as_json)
    if not all(each.ok for each in found):
        raise typer.Exit(CHECK_FAILED)


@app.command()
def doctor(
    partners: Annotated[bool, typer.Option("--partners", help="ask every partner, too")] = False,
    books: Annotated[bool, typer.Option(help="check the invariants, which reads all")] = True,
    as_json: AsJson = False,
) -> None:
    """Look at everything an operator would; change nothing. Exit 1 if a check fails."""
    told = load("gateway.operations.telling")
    asked = {"partners": partners, "books": books}
    if not asyncio.run(told.tell(read_settings(), asked, out=out, err=err, as_json=as_json)):
        raise typer.Exit(CHECK_FAILED)


@audit_app.command("verify")
def verify_audit(
    head: Annotated[
        Path | None, typer.Option(help="a signed head that a merchant kept, to compare with")
    ] = None,
    jwks: Annotated[
        Path | None, typer.Option(help="the keys that go with it; the database's by default")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute the audit chain over every sealed row; exit 1 and name the first bad one."""
    evidence = load("gateway.operations.evidence")
    model = load("gateway.audit.model")
    url, began = read_settings().url, time.perf_counter()
    try:
        with progress("verifying") as bar:
            asked = {"kept": head, "jwks": jwks, "begin": bar.begin, "progress": bar.at}
            found = databases.run(lambda: evidence.verify(url, **asked), url=url)
    except model.BrokenChain as broken:
        err.print(str(broken), highlight=False)
        raise typer.Exit(CHECK_FAILED) from broken
    except (model.BadHead, OSError) as error:
        err.print(str(error), highlight=False)
        raise typer.Exit(USAGE) from error
    seconds = max(time.perf_counter() - began, 0.001)
    rows = [(table, f"{count:,}") for table, count in found.tables.items()]
    rows += [("links", f"{found.links:,}"), ("signed heads that agree", f"{found.heads:,}")]
    rows += [("kept head", "agrees" if head else "none given"), ("last seal", found.seal)]
    rows += [("links a second", f"{found.links / seconds:,.0f}")]
    print_rows(("what", "verified"), rows, as_json=as_json)


@app.command()
def backup(
    path: Annotated[Path, typer.Argument(help="of the copy; it must not exist")],
    as_json: AsJson = False,
) -> None:
    """Copy the database while it is in use, and verify the copy; exit 1 if it is broken."""
    backups = load("gateway.operations.backup")
    try:
        with progress("copying") as bar:
            url = read_settings().url
            made = databases.run(lambda: backups.backup(url, path, progress=bar.of), url=url)
    except backups.BackupError as error:
        err.print(str(error), highlight=False, soft_wrap=True)
        raise typer.Exit(CHECK_FAILED) from error
    _print_verdict(made, as_json=as_json)


@app.command()
def restore(
    path: Annotated[Path, typer.Argument(help="of the backup")],
    force: Annotated[
        bool, typer.Option("--force", help="also over a database that is there")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of the database and verify it. Then: `gateway recover`."""
    backups = load("gateway.operations.backup")
    try:
        url = read_settings().url
        made = databases.run(lambda: backups.restore(url, path, force=force))
    except backups.BackupError as error:
        err.print(str(error), highlight=False, soft_wrap=True)
        raise typer.Exit(CHECK_FAILED) from error
    _print_verdict(made, as_json=as_json)
    if made.broken:
        raise typer.Exit(CHECK_FAILED)


@app.command()
def recover(
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"],
            help="business time of the backup; ten minutes before its newest record by default",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """After a restore: find what was lost since, from the partners' side, and end it.

    Safe to run again. Ends 1 while something waits for a person, 3 while a partner has to answer.
    """
    settings, recovery = read_settings(), load("gateway.operations.recovery")
    with progress("asking partners") as bar:
        asked = {"since": since, "progress": bar.phase}
        found = databases.run(lambda: recovery.recover(settings, **asked), url=settings.url)
    rows = [
        (each.redemption_id, each.merchant_id, "yes" if each.known else "no", each.state,
         each.result)
        for each in found.rows
    ]  # fmt: skip
    print_rows(("redemption", "merchant", "known here", "state", "result"), rows, as_json=as_json)
    if not as_json:
        print_rows(("outcome", "redemptions"), [(k, str(n)) for k, n in found.counts.items()])
    for merchant, code in found.unreached.items():
        err.print(f"{merchant} was not reached: {code}; run `gateway recover` again")
    if found.unreached or found.waiting:
        raise typer.Exit(REMOTE_FAILED)
    if found.reviews:
        raise typer.Exit(CHECK_FAILED)


@app.command("certify-partner")
def certify_partner(
    code: Annotated[str, typer.Argument(help="the merchant's id or short name")],
    group: Annotated[list[str] | None, typer.Option(help="A, C or F; all by default")] = None,
    junit: Annotated[Path | None, typer.Option(help="also write JUnit XML there")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a connected partner's sandbox against the partner contract; exit 1 on a FAIL."""
    sandboxed = load("gateway.demo.sandboxed")
    try:
        found = asyncio.run(sandboxed.certify(read_settings(), code, group or ["A", "C", "F"]))
    except LookupError as error:
        err.print(str(error.args[0]), highlight=False)
        raise typer.Exit(USAGE) from error
    except OSError as error:
        err.print(str(error), highlight=False)
        raise typer.Exit(REMOTE_FAILED) from error
    if junit:
        junit.write_text(found.junit, encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(found.document, ensure_ascii=False, indent=2))
    else:
        typer.echo(found.text)
    if not found.ready:
        raise typer.Exit(CHECK_FAILED)


@clock_app.command("set")
def set_clock(
    instant: Annotated[datetime, typer.Argument(formats=["%Y-%m-%dT%H:%M:%S%z"])],
) -> None:
    """Move the sandbox's business clock, for all processes, as in 2026-11-21T09:00:00+08:00."""
    before = run(load("gateway.demo.sandboxed").set_clock(read_settings(), instant))
    if instant < before:
        told = f"it goes back, from {before.isoformat(timespec='seconds')}: what was done since"
        err.print(f"{told} keeps its later time", highlight=False)
    out.print(f"business time is {instant.isoformat()}", highlight=False)


@database_app.command("upgrade")
def upgrade() -> None:
    """Bring the database to the newest schema."""
    out.print(f"at revision {asyncio.run(_upgrade(read_settings()))}", highlight=False)


@events_app.command("list")
def list_events(
    failed: Annotated[bool, typer.Option("--failed", help="only failing deliveries")] = False,
    since: Annotated[
        str | None, typer.Option(help="as in 30m, 1h or 2d; with --failed, of the last try")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="the newest so many")] = 50,
    as_json: AsJson = False,
) -> None:
    """List events with their deliveries, newest first."""
    forwarding = load("gateway.demo.forwarding")
    asked = {"failed": failed, "since": since, "limit": limit}
    rows = run(forwarding.listed(read_settings(), **asked))
    names = ("at", "event", "type", "merchant", "state", "attempts", "answer")
    print_rows(names, rows, as_json=as_json)


@events_app.command("resend")
def resend_events(
    events: Annotated[list[str], typer.Argument(help="ids, as in evt_red_0k3_2")],
    to: Annotated[str | None, typer.Option(help="send there at once; sandbox only")] = None,
    merchant: Annotated[str | None, typer.Option(help="whose, with --to")] = None,
) -> None:
    """Send events again under their old ids; exit 3 if an address of --to does not take one."""
    forwarding, tell = load("gateway.demo.forwarding"), typer.echo
    if to is None:
        count, reasons = run(forwarding.resend(read_settings(), events))
        tell("\n".join([f"{count} will be sent again", *reasons]))
        return
    sending = forwarding.send_to(read_settings(), events, to, merchant=merchant, tell=tell)
    if not run(sending):
        raise typer.Exit(REMOTE_FAILED)


@app.command()
def dev(
    forward: Annotated[str, typer.Option(help="address to send to, as in http://127.0.0.1:9000")],
    merchant: Annotated[str | None, typer.Option(help="whose events; all by default")] = None,
    count: Annotated[int | None, typer.Option(help="end after so many")] = None,
) -> None:
    """Forward the sandbox's events from now on to a partner's machine, and print its answers."""
    asked = {"merchant": merchant, "count": count, "tell": typer.echo}
    run(load("gateway.demo.forwarding").forward(read_settings(), forward, **asked))


@schema_app.command("export")
def export(
    subgraph: Annotated[bool, typer.Option("--subgraph", help="the federation SDL")] = False,
    supergraph: Annotated[
        bool, typer.Option("--supergraph", help="what it composes to with merchants' subgraphs")
    ] = False,
) -> None:
    """Print our API schema, as in schema.graphql."""
    schema = load("gateway.api.schema")
    if supergraph:
        typer.echo(run(load("gateway.operations.graphs").supergraph(read_settings())), nl=False)
        return
    typer.echo(schema.subgraph_sdl() if subgraph else schema.api_sdl(), nl=False)


@federation.app.command("versions")
def list_graphs(
    limit: Annotated[int, typer.Option(help="the newest so many")] = 20, as_json: AsJson = False
) -> None:
    """List the versions of the coalition's graph, newest first, and which is live."""
    rows = run(load("gateway.operations.graphs").versions(read_settings(), limit=limit))
    print_rows(
        ("version", "live", "subgraphs", "made by", "made at", "rolled back by"),
        rows,
        as_json=as_json,
    )


@federation.app.command("rollback")
def roll_back(
    version: Annotated[
        int | None, typer.Argument(help="0: our schema alone; by default the one before")
    ] = None,
) -> None:
    """Answer with an earlier version of the coalition's graph, in every gateway at once."""
    before, now = run(load("gateway.operations.graphs").roll_back(read_settings(), version))
    out.print(f"version {now or 0} is live, {before or 0} was", highlight=False)


@federation.app.command("unpublish")
def unpublish_subgraph(
    merchant: Annotated[str, typer.Argument(help="whose, as in M05")],
    allow_breaking: Annotated[
        bool, typer.Option("--allow-breaking", help="even what clients use; else that refuses it")
    ] = False,
) -> None:
    """Take a merchant's subgraph out of the coalition's graph; its versions stay."""
    work = load("gateway.operations.graphs").unpublish(
        read_settings(), merchant, breaking=allow_breaking
    )
    number, version, lost = run(work)
    for each in lost:
        out.print(f"lost: {each}", highlight=False, markup=False)
    out.print(f"version {version} is live, without {merchant} {number}", highlight=False)


@federation.app.command("trust")
def trust(
    client: Annotated[str, typer.Argument(help="the client's id, as in member-app")],
    documents: Annotated[
        list[Path], typer.Argument(help="files, each with one document", exists=True)
    ],
) -> None:
    """Register documents that a client may send by their SHA-256; publications keep to them."""
    given = [(str(path), path.read_text(encoding="utf-8")) for path in documents]
    for name in run(load("gateway.operations.graphs").trust(read_settings(), client, given)):
        typer.echo(name)


@database_app.command("current")
def current() -> None:
    """Print the database's revision and the newest one; exit 1 if they differ."""
    found = asyncio.run(_current(read_settings()))
    newest = load("gateway.migrations").newest()
    out.print(f"at revision {found or 'none'}, newest is {newest}", highlight=False)
    if found != newest:
        raise typer.Exit(CHECK_FAILED)


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(line)


def _print_verdict(made: Any, *, as_json: bool) -> None:
    rows = [("revision", str(made.revision)), ("bytes", f"{made.bytes:,}")]
    rows += [("links of the audit chain", f"{made.links:,}"), ("newest record", str(made.newest))]
    rows += [("broken", each) for each in made.broken] or [("invariants", "hold")]
    print_rows(("what", "found"), rows, as_json=as_json)


async def _upgrade(settings: "Settings") -> str | None:
    migrations = load("gateway.migrations")
    database = load("gateway.db").Database(settings.url)
    try:
        await migrations.upgrade(database)
        found: str | None = await migrations.current(database)
        return found
    finally:
        await database.close()


async def _current(settings: "Settings") -> str | None:
    database = load("gateway.db").Database(settings.url)
    try:
        found: str | None = await load("gateway.migrations").current(database)
        return found
    finally:
        await database.close()
