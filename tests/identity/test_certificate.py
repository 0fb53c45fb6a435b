"""Client certificates: from the server itself and from a trusted front."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from proxy.errors import BadRequest, Unauthenticated
from proxy.identity.authenticate import Authenticator, create
from proxy.identity.config import CertificateConfig, CertificateName, IdentityConfig
from proxy.identity.credentials import Credential
from proxy.identity.principal import READ
from tests.identity.support import NOW_S

FRONT = "10.0.0.5"


def certificate(*names: str, uri: str | None = None) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
    since = datetime.fromtimestamp(NOW_S, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(since)
        .not_valid_after(since + timedelta(hours=1))
    )
    if uri is not None:
        alternative = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(key, hashes.SHA256())


CAMERA = certificate("camera", uri="spiffe://example.org/camera")
PEM = CAMERA.public_bytes(Encoding.PEM).decode()
RFC_9440 = ":" + base64.b64encode(CAMERA.public_bytes(Encoding.DER)).decode() + ":"


def authenticator(client: httpx.AsyncClient, name: CertificateName = "cn") -> Authenticator:
    trusted = CertificateConfig(
        header="Client-Cert",
        trusted_peers=(ip_network("10.0.0.0/24"),),
        name=name,
        groups={"camera": ("news",)},
        default_scopes=(READ,),
    )
    return create(IdentityConfig(certificates=trusted), client)


@pytest.mark.parametrize("value", [RFC_9440, quote(PEM)], ids=["RFC 9440", "PEM"])
@pytest.mark.parametrize("peer", [FRONT, "::ffff:10.0.0.5"])
async def test_a_trusted_front_hands_the_certificate_on(
    client: httpx.AsyncClient, value: str, peer: str
) -> None:
    who = authenticator(client)
    credential = who.credential([(b"client-cert", value.encode())], b"", peer, None)
    assert credential is not None
    caller = await who.authenticate(credential, peer, NOW_S)
    assert caller.user == "user:mtls/camera"
    assert (caller.groups, caller.scopes) == ({"news"}, {READ})
    assert caller.expires_s == NOW_S + 3600
    assert who.cached(credential, NOW_S + 59) == caller
    assert who.cached(credential, NOW_S + 60) is None


@pytest.mark.parametrize("peer", ["192.0.2.1", "", "testclient", "::1"])
def test_the_header_of_anybody_else_does_not_exist(client: httpx.AsyncClient, peer: str) -> None:
    headers = [(b"client-cert", RFC_9440.encode())]
    assert authenticator(client).credential(headers, b"", peer, None) is None


async def test_the_certificate_of_the_server_itself_needs_no_front(client: httpx.AsyncClient) -> None:
    who = authenticator(client)
    credential = who.credential([], b"", "192.0.2.1", {"client_cert_chain": [PEM]})
    assert (await who.authenticate(credential, "192.0.2.1", NOW_S)).subject == "camera"


def test_a_token_comes_before_the_certificate_that_a_front_attaches(client: httpx.AsyncClient) -> None:
    headers = [(b"client-cert", RFC_9440.encode()), (b"authorization", b"Bearer abc")]
    assert authenticator(client).credential(headers, b"", FRONT, None) == Credential("bearer", "abc")


def test_two_certificates_are_a_bad_request(client: httpx.AsyncClient) -> None:
    with pytest.raises(BadRequest):
        authenticator(client).credential([(b"client-cert", RFC_9440.encode())] * 2, b"", FRONT, None)


@pytest.mark.parametrize(
    "value", ["", ":!:", ":AAAA:", "x", quote("-----BEGIN CERTIFICATE-----"), "%ff", "é", "x" * 20_000]
)
async def test_what_is_no_certificate_is_refused(client: httpx.AsyncClient, value: str) -> None:
    with pytest.raises(Unauthenticated):
        await authenticator(client).authenticate(Credential("certificate", value), FRONT, NOW_S)


@pytest.mark.parametrize("now_s", [NOW_S - 1, NOW_S + 3600])
async def test_out_of_date_is_refused(client: httpx.AsyncClient, now_s: int) -> None:
    with pytest.raises(Unauthenticated):
        await authenticator(client).authenticate(Credential("certificate", PEM), FRONT, now_s)


@pytest.mark.parametrize(
    ("made", "name", "subject"),
    [
        (CAMERA, "san_uri", "spiffe://example.org/camera"),
        (CAMERA, "san_dns", None),
        (certificate("a", "b"), "cn", None),
        (certificate(), "cn", None),
        (certificate("a"), "san_email", None),
        (CAMERA, "sha256", CAMERA.fingerprint(hashes.SHA256()).hex()),
    ],
    ids=["uri", "no dns name", "two names", "no name", "no email", "digest"],
)
async def test_the_configured_part_names_the_holder_or_nobody(
    client: httpx.AsyncClient, made: x509.Certificate, name: CertificateName, subject: str | None
) -> None:
    credential = Credential("certificate", made.public_bytes(Encoding.PEM).decode())
    who = authenticator(client, name)
    if subject is None:
        with pytest.raises(Unauthenticated):
            await who.authenticate(credential, FRONT, NOW_S)
    else:
        assert (await who.authenticate(credential, FRONT, NOW_S)).subject == subject
