"""Client certificates end to end: real ones, over TLS on loopback and from a front, by what operators set."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from proxy.app import Settings
from store.settings import parse
from tests.identity.serving import serving

READING = {"TAMS_MTLS__DEFAULT_SCOPES": '["tams-api/read"]', "TAMS_MTLS__GROUPS": '{"camera": ["news"]}'}
FLOW = "00000000-0000-4000-8000-000000000001"


class Authority:
    """A certificate authority, and what it signed: `name.pem`, key and all."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        # Without these newer versions of Python trust no certificate of it.
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        built = (
            self._builder(self.name, self.key)
            .add_extension(x509.BasicConstraints(True, 0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        )
        self.file.write_bytes(built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def sign(self, name: str) -> Path:
        """A certificate and its key in one file; also good for a server on 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternatives = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
        made = self._builder(subject, key).add_extension(alternatives, critical=False)
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path = self.folder / f"{name}.pem"
        path.write_bytes(private + made.sign(self.key, hashes.SHA256()).public_bytes(pem))
        return path

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(signer, critical=False)
        )


@dataclass(frozen=True)
class House:
    """Where everything lies, and what authorities there are."""

    folder: Path
    ours: Authority
    foreign: Authority

    def client(self, certificate: Path | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ours.file)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("mtls")
    ours, foreign = Authority(folder, "ours"), Authority(folder, "foreign")
    ours.sign("server")
    ours.sign("camera")
    foreign.sign("stranger")
    yield House(folder, ours, foreign)


def tls(house: House) -> dict[str, str]:
    return {
        "TAMS_TLS__CERTIFICATE": str(house.folder / "server.pem"),
        "TAMS_TLS__CLIENT_CA": str(house.ours.file),
    }


async def test_the_server_itself_verifies_a_certificate_and_its_holder_is_the_caller(
    house: House, tmp_path: Path
) -> None:
    async with serving(tmp_path, READING | tls(house)) as url:
        async with httpx.AsyncClient(
            verify=house.client(house.folder / "camera.pem"), timeout=30, trust_env=False
        ) as camera:
            assert (await camera.get(f"{url}/flows")).status_code == 200
            assert (await camera.put(f"{url}/flows/{FLOW}", json={})).status_code == 403
            assert (
                await camera.get(f"{url}/flows", headers={"Authorization": "Bearer x"})
            ).status_code == 401
        async with httpx.AsyncClient(verify=house.client(None), timeout=30, trust_env=False) as nobody:
            assert (await nobody.get(f"{url}/flows")).status_code == 401
            assert (await nobody.get(f"{url}/health")).status_code == 200


async def test_a_certificate_of_another_authority_ends_in_the_handshake(house: House, tmp_path: Path) -> None:
    async with serving(tmp_path, READING | tls(house)) as url:
        stranger = house.client(house.folder / "stranger.pem")
        async with httpx.AsyncClient(verify=stranger, timeout=30, trust_env=False) as client:
            with pytest.raises((httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)):
                await client.get(f"{url}/flows")


async def test_a_web_socket_is_its_certificates_holder_too(house: House, tmp_path: Path) -> None:
    async with serving(tmp_path, READING | tls(house)) as url:
        live = f"{url.replace('https', 'wss')}/events"
        async with connect(live, ssl=house.client(house.folder / "camera.pem"), proxy=None):
            pass
        with pytest.raises(InvalidStatus) as refused:
            async with connect(live, ssl=house.client(None), proxy=None):
                pass
        assert refused.value.response.status_code == 401


def header(house: House) -> dict[str, str]:
    """The header of RFC 9440, as a front writes it."""
    found = x509.load_pem_x509_certificate((house.folder / "camera.pem").read_bytes())
    der = found.public_bytes(serialization.Encoding.DER)
    return {"Client-Cert": f":{base64.b64encode(der).decode()}:"}


@pytest.mark.parametrize(("fronts", "status"), [('["127.0.0.0/8"]', 200), ('["192.0.2.1"]', 401)])
async def test_a_front_is_believed_where_it_is_trusted(
    house: House, tmp_path: Path, fronts: str, status: int
) -> None:
    environ = {"TAMS_MTLS__HEADER": "Client-Cert", "TAMS_TRUSTED_FRONTS": fronts}
    async with (
        serving(tmp_path, READING | environ) as url,
        httpx.AsyncClient(timeout=30, trust_env=False) as client,
    ):
        assert (await client.get(f"{url}/flows", headers=header(house))).status_code == status


async def test_a_header_counts_for_nothing_where_none_is_set(house: House, tmp_path: Path) -> None:
    environ = {"TAMS_TRUSTED_FRONTS": '["127.0.0.1"]'}
    async with (
        serving(tmp_path, READING | environ) as url,
        httpx.AsyncClient(timeout=30, trust_env=False) as client,
    ):
        assert (await client.get(f"{url}/flows", headers=header(house))).status_code == 401


def test_an_authority_of_clients_without_tls_is_refused_at_start(house: House) -> None:
    environ = {"TAMS_TLS__CLIENT_CA": str(house.ours.file)}
    with pytest.raises(Exception, match="client_ca needs certificate"):
        parse(Settings, environ)
