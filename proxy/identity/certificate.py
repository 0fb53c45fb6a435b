"""Client certificates: from the TLS server itself, or from a front that is trusted to have verified them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from proxy.errors import BadRequest, Unauthenticated
from proxy.identity.config import CertificateConfig
from proxy.identity.credentials import Credential
from proxy.identity.fronts import is_front
from proxy.identity.principal import Principal

MAX_HEADER_BYTES = 16 * 1024


def presented(
    headers: Iterable[tuple[bytes, bytes]],
    peer: str,
    tls: Mapping[str, Any] | None,
    config: CertificateConfig,
) -> Credential | None:
    """The certificate of the request: the server's own (ASGI TLS extension), or a trusted front's header.

    The header of anybody else is ignored, as if it were not there. Raises BadRequest when a front sends two.
    """
    chain = tls.get("client_cert_chain") if tls is not None else None
    if chain:
        return Credential("certificate", str(next(iter(chain))))
    if config.header is None or not is_front(peer, config.trusted_peers):
        return None
    name = config.header.lower().encode()
    found = [value for header, value in headers if header == name and value.strip()]
    if len(found) > 1:
        raise BadRequest("There is more than one client certificate")
    return Credential("certificate", found[0].decode("latin-1").strip()) if found else None


def principal(value: str, config: CertificateConfig, now_s: int) -> Principal:
    """Who the certificate names. Raises Unauthenticated when it is malformed, out of date or names nobody."""
    certificate = _load(value)
    since_s = int(certificate.not_valid_before_utc.timestamp())
    expires_s = int(certificate.not_valid_after_utc.timestamp())
    if not since_s <= now_s < expires_s:
        raise Unauthenticated("The client certificate is out of date")
    name = _name(certificate, config)
    if name is None:
        raise Unauthenticated("The client certificate does not name its holder")
    return Principal(
        issuer=config.alias,
        subject=name,
        client=name,
        groups=frozenset(config.groups.get(name, ())),
        scopes=frozenset(config.scopes.get(name, config.default_scopes)),
        scope_admin=False,
        expires_s=expires_s,
    )


def _load(value: str) -> x509.Certificate:
    try:
        if len(value) > MAX_HEADER_BYTES:
            raise ValueError("too long")
        if value.startswith(":") and value.endswith(":"):
            return x509.load_der_x509_certificate(base64.b64decode(value[1:-1], validate=True))
        return x509.load_pem_x509_certificate(unquote(value, errors="strict").encode("ascii"))
    except (ValueError, binascii.Error) as exc:
        raise Unauthenticated("The client certificate cannot be read") from exc


def _name(certificate: x509.Certificate, config: CertificateConfig) -> str | None:
    """The one name of the configured kind; None when there is none, or more than one to choose from."""
    if config.name == "sha256":
        return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
    try:
        names = _common_names(certificate) if config.name == "cn" else _alternatives(certificate, config)
    except ValueError as exc:
        raise Unauthenticated("The client certificate cannot be read") from exc
    usable = [name for name in names if name and name.isprintable() and len(name) <= 128]
    return usable[0] if len(names) == len(usable) == 1 else None


def _common_names(certificate: x509.Certificate) -> list[str]:
    return [str(entry.value) for entry in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _alternatives(certificate: x509.Certificate, config: CertificateConfig) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    if config.name == "san_uri":
        return list(found.get_values_for_type(x509.UniformResourceIdentifier))
    if config.name == "san_dns":
        return list(found.get_values_for_type(x509.DNSName))
    return list(found.get_values_for_type(x509.RFC822Name))
