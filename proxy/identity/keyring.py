"""The keyring: the secrets of this deployment that it made itself, in one private file."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt import PyJWTError
from jwt.algorithms import ECAlgorithm

from proxy.identity.files import locked, read_private, write_private

Purpose = Literal["signing", "media", "cursors", "webhooks"]
PURPOSES: tuple[Purpose, ...] = ("signing", "media", "cursors", "webhooks")
ACTIVE_KEYS = 2
SECRET_BYTES = 32
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""FIPS 186-4 D.1.2.3."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair for ES256. `kid` names it in tokens and in the published key set."""

    kid: str
    created_s: int
    private: ec.EllipticCurvePrivateKey = field(repr=False)

    def public_jwk(self) -> dict[str, Any]:
        """What the key set publishes (RFC 7517): no private member."""
        numbers = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**numbers, "kid": self.kid, "use": "sig", "alg": "ES256"}


@dataclass(frozen=True, slots=True)
class Secret:
    """A symmetric key of 256 bits."""

    created_s: int
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Keyring:
    """One or two keys for each purpose, newest first: the first signs, all verify."""

    signing: tuple[SigningKey, ...]
    media: tuple[Secret, ...]
    cursors: tuple[Secret, ...]
    webhooks: tuple[Secret, ...]

    @staticmethod
    def load(path: Path) -> Keyring:
        """The keyring of the file. FileNotFoundError without one; ValueError when it is broken or readable by
        others than its owner."""
        return parse(read_private(path))

    @staticmethod
    def create(path: Path, now_s: int, secret: bytes | None = None) -> Keyring:
        """A new keyring, derived from a secret or random, durable at that path with mode 600.

        FileExistsError when there is one already.
        """
        keyring = generate(now_s) if secret is None else derived(secret, now_s)
        write_private(path, dump(keyring), replace=False)
        return keyring

    def secrets(self, purpose: Purpose) -> tuple[bytes, ...]:
        """The symmetric keys for a purpose, newest first. ValueError for "signing", which has key pairs."""
        if purpose == "signing":
            raise ValueError("signing has key pairs, not secrets")
        held: tuple[Secret, ...] = getattr(self, purpose)
        return tuple(secret.value for secret in held)

    def rotated(self, purpose: Purpose, now_s: int) -> Keyring:
        """With a new key in front; the previous one goes on verifying, older ones are dropped."""
        if purpose == "signing":
            return replace(self, signing=(_signing_key(now_s), *self.signing)[:ACTIVE_KEYS])
        held: tuple[Secret, ...] = getattr(self, purpose)
        change: dict[str, Any] = {purpose: (_secret(now_s), *held)[:ACTIVE_KEYS]}
        return replace(self, **change)


def rotate(path: Path, purpose: Purpose, now_s: int) -> Keyring:
    """Put a new key in front in the file, atomically. The previous one goes on verifying until the next."""
    with locked(path):
        keyring = Keyring.load(path).rotated(purpose, now_s)
        write_private(path, dump(keyring), replace=True)
    return keyring


def generate(now_s: int) -> Keyring:
    """A keyring of fresh random keys, one for each purpose."""
    return Keyring((_signing_key(now_s),), (_secret(now_s),), (_secret(now_s),), (_secret(now_s),))


def derived(secret: bytes, now_s: int) -> Keyring:
    """The keyring that belongs to a secret: whoever knows it makes the same one (RFC 5869)."""

    def bytes_for(purpose: Purpose, length: int = SECRET_BYTES) -> bytes:
        info = f"tams keyring {purpose}".encode()
        return HKDF(hashes.SHA256(), length, salt=None, info=info).derive(secret)

    # Half as long again as the order of the curve: what is taken off by the remainder biases nothing.
    number = int.from_bytes(bytes_for("signing", SECRET_BYTES + SECRET_BYTES // 2))
    private = ec.derive_private_key(1 + number % (P256_ORDER - 1), ec.SECP256R1())
    kid = hashlib.sha256(bytes_for("signing")).hexdigest()[:16]
    media, cursors, webhooks = (Secret(now_s, bytes_for(purpose)) for purpose in PURPOSES[1:])
    return Keyring((SigningKey(kid, now_s, private),), (media,), (cursors,), (webhooks,))


def dump(keyring: Keyring) -> bytes:
    """The file's content, private keys included."""
    document: dict[str, Any] = {"version": 1}
    document["signing"] = [
        {"kid": k.kid, "created_s": k.created_s, "jwk": ECAlgorithm.to_jwk(k.private, as_dict=True)}
        for k in keyring.signing
    ]
    for purpose in PURPOSES[1:]:
        held: tuple[Secret, ...] = getattr(keyring, purpose)
        document[purpose] = [
            {"created_s": s.created_s, "secret": base64.urlsafe_b64encode(s.value).decode()} for s in held
        ]
    return json.dumps(document, indent=2).encode() + b"\n"


def parse(data: bytes) -> Keyring:
    """The inverse of `dump`. ValueError, naming no secret, for anything else."""
    try:
        document = json.loads(data)
        if document["version"] != 1:
            raise ValueError("the keyring is of another version")
        signing = tuple(_read_signing_key(entry) for entry in document["signing"])
        rest = {p: tuple(_read_secret(entry) for entry in document[p]) for p in PURPOSES[1:]}
    except (KeyError, TypeError, PyJWTError, json.JSONDecodeError) as exc:
        raise ValueError(f"the keyring is not readable ({type(exc).__name__})") from exc
    keyring = Keyring(signing, rest["media"], rest["cursors"], rest["webhooks"])
    for purpose in PURPOSES:
        if not 1 <= len(getattr(keyring, purpose)) <= ACTIVE_KEYS:
            raise ValueError(f"the keyring needs one or two keys for {purpose}")
    return keyring


def _read_signing_key(entry: dict[str, Any]) -> SigningKey:
    private = ECAlgorithm.from_jwk(entry["jwk"])
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise ValueError("a signing key of the keyring is no private P-256 key")
    return SigningKey(str(entry["kid"]), int(entry["created_s"]), private)


def _read_secret(entry: dict[str, Any]) -> Secret:
    value = base64.urlsafe_b64decode(entry["secret"])
    if len(value) < SECRET_BYTES:
        raise ValueError("a secret of the keyring is shorter than 256 bits")
    return Secret(int(entry["created_s"]), value)


def _signing_key(now_s: int) -> SigningKey:
    return SigningKey(secrets.token_hex(8), now_s, ec.generate_private_key(ec.SECP256R1()))


def _secret(now_s: int) -> Secret:
    return Secret(now_s, secrets.token_bytes(SECRET_BYTES))
