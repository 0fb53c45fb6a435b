"""The `WWW-Authenticate` header of a refusal (RFC 6750 3, RFC 9728 5.1). Pure."""

from __future__ import annotations

from proxy.errors import Error, InsufficientScope, Unauthenticated


def www_authenticate(error: Error, *, metadata_url: str | None, basic: bool) -> list[str]:
    """The challenges for an error, one header each; empty for an error that is about something else.

    `metadata_url`: the protected resource metadata. `basic`: whether Basic is accepted, which is offered
    only to those who presented nothing or something wrong, since browsers ask for a password then.
    """
    if not isinstance(error, Unauthenticated | InsufficientScope):
        return []
    parameters = ['realm="TAMS"']
    if isinstance(error, InsufficientScope):
        parameters += ['error="insufficient_scope"', _quoted("error_description", error.summary)]
        parameters.append(_quoted("scope", error.scope))
    elif error.code is not None:
        parameters += [_quoted("error", error.code), _quoted("error_description", error.summary)]
    if metadata_url is not None:
        parameters.append(_quoted("resource_metadata", metadata_url))
    challenges = ["Bearer " + ", ".join(parameters)]
    if basic and isinstance(error, Unauthenticated):
        challenges.append('Basic realm="TAMS", charset="UTF-8"')
    return challenges


def _quoted(name: str, value: str) -> str:
    """RFC 6750 3 allows printable ASCII without quote and backslash."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in value)
    return f'{name}="{plain}"'
