"""What anybody may reach, by path: the token endpoint and what is published about it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from proxy.asgi import App, Refusals
from proxy.cookies import TOKEN_PATH as LATER_TOKEN_PATH
from proxy.cookies import CookieToken
from proxy.errors import MethodNotAllowed
from proxy.identity.authenticate import Authenticator
from proxy.identity.endpoint import resource_route, routes
from proxy.identity.issuer import TOKEN_PATH, resource_metadata


def open_doors(authenticator: Authenticator, public_url: str, refusals: Refusals) -> dict[bytes, App]:
    """The applications by path."""
    config = authenticator.config
    issuers = tuple(issuer.issuer for issuer in config.issuers)
    own = (public_url,) if authenticator.local is not None else ()
    found = [
        resource_route(resource_metadata(public_url, (*issuers, *own), url_token=config.allow_url_token))
    ]
    if authenticator.local is not None:
        found += routes(authenticator.local)
    endpoints = Starlette(routes=found, exception_handlers={405: _other_method(refusals)})
    doors: dict[bytes, App] = {route.path.encode(): endpoints for route in found}
    if authenticator.local is not None:
        doors[LATER_TOKEN_PATH.encode()] = CookieToken(endpoints, TOKEN_PATH, public_url)
    return doors


def _other_method(refusals: Refusals) -> Callable[[Request, Exception], Response]:
    def refuse(request: Request, exc: Exception) -> Response:
        allow = (getattr(exc, "headers", None) or {}).get("Allow", "")
        error = MethodNotAllowed("This path does not take this method.", allow=tuple(allow.split(", ")))
        status, headers, body = refusals(error)
        return Response(body, status, dict(headers))

    return refuse
