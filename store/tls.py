"""The certificate that a server shows, read again when its files change; open connections stay open."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

from store.serving import TlsSettings

LOOK_S = 10.0
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Those of TLS 1.2 with forward secrecy and authenticated encryption; TLS 1.3 has no others."""
_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_log = logging.getLogger(__name__)


class InvalidCertificate(Exception):
    """The certificate, its key or the password cannot be used."""


class Certificates:
    """A context for a listening socket. Raises `InvalidCertificate`."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._seen = self._signature()
        self.context = _context(settings)

    def reload(self) -> None:
        """Show the certificate that the files hold now, from the next handshake on.

        Raises `InvalidCertificate`; then the one before stays.
        """
        # The first one to find out whether they belong together: a half-changed context could not be undone.
        _context(self._settings)
        _load(self.context, self._settings)
        _log.info("certificate %s is shown from now on", self._settings.certificate)

    async def watch(self) -> None:
        """Reload when a file has changed, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            seen = self._signature()
            if seen == self._seen:
                continue
            self._seen = seen
            try:
                self.reload()
            except InvalidCertificate as exc:
                _log.error("The changed certificate is refused, the one before is still shown: %s", exc)

    def _signature(self) -> tuple[tuple[int, int], ...]:
        named = (self._settings.certificate, self._settings.key, self._settings.client_ca)
        return tuple(_marks(path) for path in named if path is not None)


def _marks(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return status.st_mtime_ns, status.st_ino


def _context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _MINIMUM[settings.minimum]
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    if settings.client_ca is not None:
        # Asked for and not demanded: who has none may present a token.
        context.verify_mode = ssl.CERT_OPTIONAL
    _load(context, settings)
    return context


def _load(context: ssl.SSLContext, settings: TlsSettings) -> None:
    certificate = settings.certificate
    if certificate is None:
        raise InvalidCertificate("TAMS_TLS__CERTIFICATE: there is none")
    try:
        file = settings.key_password_file
        password = b"" if file is None else file.read_bytes().strip()
        # Without a password it must not be asked for on a terminal.
        context.load_cert_chain(certificate, settings.key, password)
    except (OSError, ssl.SSLError, ValueError) as exc:
        raise InvalidCertificate(f"TAMS_TLS__CERTIFICATE: {certificate}: {exc}") from exc
    if settings.client_ca is not None:
        try:
            context.load_verify_locations(settings.client_ca)
        except (OSError, ssl.SSLError) as exc:
            raise InvalidCertificate(f"TAMS_TLS__CLIENT_CA: {settings.client_ca}: {exc}") from exc


def tls_of(transport: asyncio.BaseTransport) -> dict[object, object] | None:
    """The ASGI TLS extension of a connection: the certificate that the client showed and the server verified.

    None without one, and on a connection in the clear.
    """
    held = transport.get_extra_info("ssl_object")
    certificate = None if held is None else held.getpeercert(binary_form=True)
    if certificate is None:
        return None
    return {"client_cert_chain": (ssl.DER_cert_to_PEM_cert(certificate),)}
