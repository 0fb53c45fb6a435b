"""The caller, as the rest of the proxy sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

READ, WRITE, DELETE, ADMIN = "tams-api/read", "tams-api/write", "tams-api/delete", "tams-api/admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    `issuer` is the alias of the issuer that vouches for it, `subject` and `client` are as that issuer
    spells them. `groups` are names of the policy ("news", or "<alias>/<name>" when the issuer does not
    map them). `scopes` is None only where the issuer's configuration says that its tokens carry none.
    `scope_admin`: whether a tams-api/admin scope of this issuer makes an administrator. `expires_s`: Unix
    time in seconds after which the credential is worth nothing.
    """

    issuer: str
    subject: str
    client: str | None
    groups: frozenset[str]
    scopes: frozenset[str] | None
    scope_admin: bool
    expires_s: int

    def __hash__(self) -> int:
        """Cheap, since caches ask for it several times a request: equal principals have equal subjects."""
        return hash((self.issuer, self.subject, self.client))

    @property
    def user(self) -> str:
        """The OpenFGA user, `user:<alias>/<subject>`, its parts percent-encoded."""
        return f"user:{self.name}"

    @property
    def is_admin_by_scope(self) -> bool:
        """Whether the token itself makes an administrator: its issuer may, and it has the scope."""
        return self.scope_admin and self.scopes is not None and ADMIN in self.scopes

    @property
    def name(self) -> str:
        """What logs and `created_by` carry."""
        return _name(self.issuer, self.subject)


def user_name(issuer: str, subject: str) -> str:
    """`user:<alias>/<subject>`, each part percent-encoded."""
    return f"user:{_name(issuer, subject)}"


@lru_cache(4096)
def _name(issuer: str, subject: str) -> str:
    return f"{quote(issuer, safe='')}/{quote(subject, safe='')}"
