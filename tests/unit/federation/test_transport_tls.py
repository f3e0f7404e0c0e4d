"""Services over TLS: whose word is taken, for which name, and what is kept of a connection."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.federation.services import ServiceFailure
from gateway.federation.transport import Transport, TransportOptions
from tests.unit.federation.test_transport import GOOD, Server, request, response

DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority that lives as long as a test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        certificate = (
            self._begun(self._name, self._key.public_key(), DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _begun(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, valid: datetime.timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * DAY)
            .not_valid_after(now + valid)
        )

    def server(self, host: str, valid: datetime.timedelta = DAY) -> ssl.SSLContext:
        """What a server of that name shows."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._begun(x509.Name([]), key.public_key(), valid)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        file = self._folder / "server.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """An authority this machine trusts."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    yield made


@dataclass
class Secure:
    """A server, and the port it has."""

    server: Server
    port: int

    def url(self, host: str = "localhost") -> str:
        return f"https://{host}:{self.port}/graphql"


@asynccontextmanager
async def serving(context: ssl.SSLContext | None, *pieces: bytes | float) -> AsyncIterator[Secure]:
    server = Server(*pieces)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    try:
        yield Secure(server, listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        for task in server.tasks:
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)
        await asyncio.sleep(0)


async def refused(url: str, **options: float) -> ServiceFailure:
    async with Transport(TransportOptions(**options)) as transport:
        with pytest.raises(ServiceFailure) as caught:
            await transport.service(url).fetch(request())
    return caught.value


async def test_a_verified_connection_is_kept(authority: Authority) -> None:
    async with (
        serving(authority.server("localhost"), response(GOOD)) as secure,
        Transport() as transport,
    ):
        service = transport.service(secure.url())
        for _ in range(3):
            assert (await service.fetch(request())).data == {"a": 1}
        assert secure.server.connections == 1
        assert f"host: localhost:{secure.port}" in secure.server.requests[0][0].lower()


async def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    async with serving(authority.server("elsewhere.test"), response(GOOD)) as secure:
        assert (await refused(secure.url())).code == "SUBGRAPH_UNREACHABLE"
        assert secure.server.requests == []


async def test_a_certificate_for_a_name_is_none_for_its_address(authority: Authority) -> None:
    async with serving(authority.server("localhost"), response(GOOD)) as secure:
        assert (await refused(secure.url("127.0.0.1"))).code == "SUBGRAPH_UNREACHABLE"
        assert secure.server.requests == []


async def test_an_authority_nobody_trusts_is_refused(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path / "other").file))
    async with serving(authority.server("localhost"), response(GOOD)) as secure:
        assert (await refused(secure.url())).code == "SUBGRAPH_UNREACHABLE"
        assert secure.server.requests == []


async def test_a_certificate_that_has_run_out_is_refused(authority: Authority) -> None:
    async with serving(authority.server("localhost", valid=-DAY), response(GOOD)) as secure:
        assert (await refused(secure.url())).code == "SUBGRAPH_UNREACHABLE"
        assert secure.server.requests == []


@asynccontextmanager
async def plain(said: bytes) -> AsyncIterator[str]:
    """The address of a server that says something and knows nothing of TLS."""
    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.Event())
        writer.write(said)
        with suppress(OSError):
            await reader.read()
        writer.transport.abort()
        ended[0].set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"https://localhost:{listening.sockets[0].getsockname()[1]}/"
    listening.close()
    await ended[0].wait()
    await asyncio.sleep(0)


async def test_a_server_without_tls_is_refused(authority: Authority) -> None:
    async with plain(response(GOOD)) as url:
        assert (await refused(url)).code == "SUBGRAPH_UNREACHABLE"


async def test_a_server_that_never_shakes_hands_is_given_up(authority: Authority) -> None:
    async with plain(b"") as url:
        failure = await refused(url, connect_timeout=0.05)
        assert failure.code == "SUBGRAPH_TIMEOUT"


async def test_a_kept_connection_that_was_closed_is_replaced(authority: Authority) -> None:
    async with (
        serving(authority.server("localhost"), response(GOOD)) as secure,
        Transport() as transport,
    ):
        service = transport.service(secure.url())
        await service.fetch(request())
        secure.server.tasks[0].cancel()  # It goes without a word.
        assert (await service.fetch(request())).data == {"a": 1}
        assert secure.server.connections == 2


async def test_an_answer_cut_off_is_a_failure(authority: Authority) -> None:
    whole = response(GOOD)
    async with serving(authority.server("localhost"), whole[:-3], -1.0) as secure:
        assert (await refused(secure.url())).code == "SUBGRAPH_UNREACHABLE"


async def test_who_gives_up_takes_the_connection_along(authority: Authority) -> None:
    async with (
        serving(authority.server("localhost"), 5.0) as secure,
        Transport() as transport,
    ):
        task = asyncio.create_task(transport.service(secure.url()).fetch(request()))
        await secure.server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(secure.server.gone.wait(), 2)
