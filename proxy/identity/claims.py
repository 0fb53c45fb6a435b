"""Verified claims and the issuer's configuration -> Principal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from proxy.errors import Unauthenticated
from proxy.identity.config import ClaimNames, IssuerConfig, Preset
from proxy.identity.principal import Principal

Claims = Mapping[str, Any]

SCOPE_PREFIX = "tams-api/"
MAX_NAME_CHARS = 256
ID_TOKEN = "it is an ID token"
# OpenFGA takes no user longer than this (bytes, after percent-encoding).
MAX_USER_BYTES = 512


@dataclass(frozen=True, slots=True)
class Shape:
    """How the tokens of a product look. `refusal`: why a token is no access token of it, or None.
    `machine`: the token was given to a client on its own behalf."""

    names: ClaimNames
    refusal: Callable[[Claims], str | None]
    machine: Callable[[Claims], bool]


def accepted_audience(claims: Claims, config: IssuerConfig) -> bool:
    """Whether the token is meant for us. Cognito's access tokens have no `aud`: there the client is known."""
    if config.preset == "cognito":
        return claims.get("client_id") in config.audiences
    audience = claims.get("aud")
    held = [audience] if isinstance(audience, str) else audience
    return isinstance(held, list) and any(isinstance(a, str) and a in config.audiences for a in held)


def principal(claims: Claims, config: IssuerConfig, expires_s: int) -> Principal:
    """The caller these claims speak of. Unauthenticated when they do not say it in the issuer's shape.

    A client on its own behalf is named by its client id, anybody else by the subject. Claims that are there
    but malformed refuse the token: a group that is overlooked could be one that is denied.
    """
    shape = SHAPES[config.preset]
    reason = shape.refusal(claims)
    if reason is not None and not (config.accept_id_tokens and reason == ID_TOKEN):
        raise Unauthenticated(f"The token is not an access token: {reason}")
    names = config.claims or shape.names
    client = next((name for name in map(lambda n: _name(claims, n), names.client) if name is not None), None)
    subject = _name(claims, names.subject)
    if client is not None and (subject is None or shape.machine(claims)):
        subject = client
    if subject is None:
        raise Unauthenticated("The token has no subject")
    caller = Principal(
        issuer=config.alias,
        subject=subject,
        client=client,
        groups=_groups(claims, names, config),
        scopes=_scopes(claims, names, config),
        scope_admin=config.scope_admin,
        expires_s=expires_s,
    )
    if len(caller.user) > MAX_USER_BYTES:
        raise Unauthenticated("The token's subject is too long")
    return caller


def find(claims: Claims, path: str) -> Any:
    """The claim of that name, or else the nested one of that dotted path; None when there is neither."""
    if path in claims:
        return claims[path]
    head, dot, rest = path.partition(".")
    while dot:
        inner = claims.get(head)
        if isinstance(inner, Mapping):
            value = find(inner, rest)
            if value is not None:
                return value
        step, dot, rest = rest.partition(".")
        head = f"{head}.{step}"
    return None


def names_in(value: Any) -> list[str]:
    """The names of a list, or the one name that a string is: a name with a comma or a space is one name."""
    held = [value] if isinstance(value, str) else value
    if not isinstance(held, list):
        raise Unauthenticated("A claim of the token is not a list of names")
    for name in held:
        if not isinstance(name, str) or not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
            raise Unauthenticated("A claim of the token is not a list of names")
    return held


def _name(claims: Claims, path: str) -> str | None:
    value = find(claims, path)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > MAX_NAME_CHARS or not value.isprintable():
        raise Unauthenticated("A claim of the token is not a name")
    return value


def _groups(claims: Claims, names: ClaimNames, config: IssuerConfig) -> frozenset[str]:
    found: list[str] = []
    for path in names.groups:
        if _is_elsewhere(claims, path):
            raise Unauthenticated("The token leaves its groups out (too many of them)")
        value = find(claims, path)
        if value is not None:
            found += _words(path, value)
    if config.preset == "keycloak":
        # Keycloak writes a group as a path when its mapper is so configured: /news.
        found = [name.removeprefix("/") if config.groups is None else name for name in found]
    if config.groups is not None:
        return frozenset(config.groups[name] for name in found if name in config.groups)
    alias = quote(config.alias, safe="")
    return frozenset(f"{alias}/{quote(name, safe='/')}" for name in found if name)


def _is_elsewhere(claims: Claims, path: str) -> bool:
    """Distributed claims (OpenID Connect 5.6.2), and Entra's shorter note of the same."""
    elsewhere = claims.get("_claim_names")
    if isinstance(elsewhere, Mapping) and path in elsewhere:
        return True
    return path == "groups" and bool(claims.get("hasgroups"))


def _scopes(claims: Claims, names: ClaimNames, config: IssuerConfig) -> frozenset[str] | None:
    value = None
    for path in names.scopes:
        value = find(claims, path)
        if value is not None:
            value = _words("scope", value)
            break
    spelled = [config.scopes.get(name, name) for name in value or ()]
    held = frozenset(name for name in spelled if name.startswith(SCOPE_PREFIX))
    return None if not held and not config.carries_scopes else held


def _words(path: str, value: Any) -> list[str]:
    """Scopes are one string with spaces between them (RFC 6749 3.3), wherever they are used."""
    if path in ("scope", "scp") and isinstance(value, str):
        return [word for word in value.split(" ") if word]
    return names_in(value)


def _generic(claims: Claims) -> str | None:
    return ID_TOKEN if "at_hash" in claims or "c_hash" in claims else None


def _keycloak(claims: Claims) -> str | None:
    return None if claims.get("typ") == "Bearer" else "its typ claim is not Bearer"


def _keycloak_machine(claims: Claims) -> bool:
    account = claims.get("preferred_username")
    return "client_id" in claims and isinstance(account, str) and account.startswith("service-account-")


def _cognito(claims: Claims) -> str | None:
    return None if claims.get("token_use") == "access" else "its token_use is not access"


def _entra(claims: Claims) -> str | None:
    # An ID token of the same application has the same issuer and audience, but names no client and no scope.
    return None if "scp" in claims or _entra_machine(claims) else ID_TOKEN


def _entra_machine(claims: Claims) -> bool:
    if "idtyp" in claims:
        return bool(claims["idtyp"] == "app")
    has_client = "azp" in claims or "appid" in claims
    return has_client and "scp" not in claims and claims.get("sub") == claims.get("oid")


def _auth0_machine(claims: Claims) -> bool:
    return claims.get("gty") == "client-credentials"


def _own_subject(claims: Claims) -> bool:
    return "client_id" in claims and claims.get("sub") == claims["client_id"]


SHAPES: Mapping[Preset, Shape] = {
    "generic": Shape(ClaimNames(), _generic, _own_subject),
    "keycloak": Shape(ClaimNames(client=("azp", "client_id")), _keycloak, _keycloak_machine),
    "cognito": Shape(
        ClaimNames(client=("client_id",), groups=("cognito:groups",), scopes=("scope",)),
        _cognito,
        _own_subject,
    ),
    "entra": Shape(
        ClaimNames(
            subject="oid", client=("azp", "appid"), groups=("groups", "roles"), scopes=("scp", "roles")
        ),
        _entra,
        _entra_machine,
    ),
    "auth0": Shape(
        ClaimNames(client=("azp", "client_id"), groups=("permissions",), scopes=("scope",)),
        _generic,
        _auth0_machine,
    ),
}
