"""Issuers for tests: key pairs of every accepted kind, tokens, and a real HTTP server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import api_jws
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Pair:
    """A key pair with its name and algorithm."""

    kid: str
    algorithm: str
    private: PrivateKey

    def public_jwk(self, **others: Any) -> dict[str, Any]:
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            jwk = ECAlgorithm.to_jwk(public, as_dict=True)
        else:
            jwk = OKPAlgorithm.to_jwk(public, as_dict=True)
        return {"kid": self.kid, "use": "sig", **jwk, **others}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        headers = {name: value for name, value in {"kid": self.kid, **header}.items() if value is not None}
        payload = json.dumps(claims).encode()
        return api_jws.encode(payload, self.private, algorithm=self.algorithm, headers=headers)


def rsa_pair(kid: str, algorithm: str = "RS256", bits: int = 2048) -> Pair:
    return Pair(kid, algorithm, rsa.generate_private_key(65537, bits))


def ec_pair(kid: str, algorithm: str = "ES256") -> Pair:
    curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
    return Pair(kid, algorithm, ec.generate_private_key(curve))


def ed_pair(kid: str) -> Pair:
    return Pair(kid, "EdDSA", ed25519.Ed25519PrivateKey.generate())


@dataclass
class Provider:
    """A provider on loopback: its documents by path, and how often each was asked for."""

    url: str = ""
    documents: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    asked: dict[str, int] = field(default_factory=dict)
    forms: list[tuple[str, bytes]] = field(default_factory=list)
    gate: threading.Event | None = None

    def publish(self, *pairs: Pair) -> None:
        """Name the keys in its key set, and the key set in its metadata."""
        self.documents["/jwks"] = {"keys": [pair.public_jwk() for pair in pairs]}
        self.documents["/.well-known/openid-configuration"] = {
            "issuer": self.url,
            "jwks_uri": self.url + "/jwks",
            "introspection_endpoint": self.url + "/introspect",
        }


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider that listens until the block ends."""
    state = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked[self.path] = state.asked.get(self.path, 0) + 1
            if state.gate is not None:
                state.gate.wait(10)
            document = state.documents.get(self.path)
            self.answer(state.status if document is not None else 404, document)

        def do_POST(self) -> None:
            state.asked[self.path] = state.asked.get(self.path, 0) + 1
            body = self.rfile.read(int(self.headers["content-length"]))
            state.forms.append((self.headers.get("authorization", ""), body))
            self.answer(state.status, state.documents.get(self.path))

        def answer(self, status: int, document: Any) -> None:
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests read `asked` instead."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
