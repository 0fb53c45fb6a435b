"""What operators may say about an upstream, and that its certificate counts."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError

from proxy.app import Settings
from proxy.errors import InvalidSettings, Unavailable
from proxy.upstream.options import MountedUpstream, UpstreamOptions, secret
from store.settings import InvalidSettings as Invalid
from store.settings import parse
from tests.proxy.support import environment, write_policy
from tests.upstream.over_http import running
from tests.upstream.plain import Plain
from tests.upstream.serving import serving, upstream

CLIENT = {"token_url": "https://i.example/token", "client_id": "me", "client_secret": "s"}


@pytest.mark.parametrize(
    "said",
    [
        {},
        CLIENT,
        {"user": "me", "password": "s"},
        {"user": "me", "password_file": "/run/secret"},
        {"access_token": "t"},
        {"read_s": 1, "connections": 5},
    ],
)
def test_one_way_to_log_in_or_none_is_accepted(said: Mapping[str, Any]) -> None:
    assert UpstreamOptions(**said).limits().connections > 0


@pytest.mark.parametrize(
    "said",
    [
        {**CLIENT, "user": "me", "password": "s"},
        {**CLIENT, "access_token": "t"},
        {**CLIENT, "client_secret": None},
        {**CLIENT, "client_id": None},
        {**CLIENT, "token_url": "nowhere"},
        {**CLIENT, "token_url": None},
        {"user": "me"},
        {"read_s": 0},
        {"connections": 0},
        {"unknown": 1},
    ],
)
def test_anything_else_is_refused(said: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        UpstreamOptions(**said)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"prefix": "/x", "host": "x.test", "public_url": "http://x.test"},
        {"host": "x.test"},
        {"prefix": "x"},
        {"prefix": "/"},
        {"prefix": "/x/"},
        {"prefix": "/x%2f"},
        {"prefix": "/x", "name": "../x"},
        {"prefix": "/x", "url": "nowhere"},
    ],
)
def test_a_mount_has_one_place_and_a_plain_name(said: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MountedUpstream(**{"name": "x", "url": "http://up.test", "policies": Path("p"), **said})


def test_secrets_do_not_show(tmp_path: Path) -> None:
    options = UpstreamOptions(**CLIENT)
    assert "'s'" not in repr(options) and '"s"' not in options.model_dump_json()
    (tmp_path / "secret").write_text("from file\n")
    assert secret(None, tmp_path / "secret") == "from file"


def test_an_upstream_must_be_a_url(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as caught:
        parse(Settings, environment(tmp_path, upstream="nowhere"))
    assert caught.value.problems[0].startswith("TAMS_UPSTREAM: ")


async def test_a_secret_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    options = {"user": "me", "password_file": str(tmp_path / "none")}
    with pytest.raises(InvalidSettings):
        async with running(tmp_path, upstream_options=options):
            pytest.fail("it must not start")


async def test_the_store_inside_is_not_opened_before_an_upstream(tmp_path: Path) -> None:
    write_policy(tmp_path / "policies")
    async with running(tmp_path) as proxy:
        assert (await proxy.call(None, "GET", "/health")).json()["status"] == "healthy"
        made = {path.name for path in (tmp_path / "data").iterdir()}
    assert "upstream.sqlite" in made and "metadata.sqlite" not in made


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this host, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "upstream")])
    now = datetime.now(UTC)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(host, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, private


async def test_only_a_trusted_certificate_is_spoken_to(tmp_path: Path) -> None:
    pem, key = _certificate(tmp_path)
    plain = Plain()
    with serving(plain.application, certificate=(pem, key)) as url:
        async with upstream(url, tmp_path, tls=UpstreamOptions(ca_file=pem).tls()) as trusting:
            await trusting.check()
        async with upstream(url, tmp_path) as careful:
            with pytest.raises(Unavailable):
                await careful.check()
    assert len(plain.calls) == 1
