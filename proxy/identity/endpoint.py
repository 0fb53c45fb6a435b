"""The token endpoint and the published metadata over HTTP (RFC 6749, 7521, 7523, 8414, 9728)."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus
from uuid import UUID, uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from proxy.errors import TooManyRequests, Unauthenticated
from proxy.identity.assertion import ASSERTION_TYPE, Assertions
from proxy.identity.clients import Client
from proxy.identity.fronts import client_of
from proxy.identity.issuer import (
    JWKS_PATH,
    METADATA_PATH,
    OIDC_PATH,
    RESOURCE_PATH,
    TOKEN_PATH,
    LocalIssuer,
    granted_scopes,
    server_metadata,
    sign,
)

MAX_FORM_BYTES = 64 * 1024
MAX_FIELDS = 50
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
PUBLIC = {"Cache-Control": "public, max-age=300"}

Form = Mapping[str, str]


class TokenError(Exception):
    """A refusal of RFC 6749 5.2."""

    def __init__(self, code: str, description: str, *, status: int = 400, retry_after_s: int | None = None):
        super().__init__(description)
        self.code = code
        self.description = description
        self.status = status
        self.retry_after_s = retry_after_s

    def response(self) -> Response:
        """Carries `error` for OAuth clients and `detail` for those of the stream store."""
        headers = dict(NO_STORE)
        if self.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="token", charset="UTF-8"'
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        body = {"error": self.code, "error_description": self.description, "detail": self.description}
        return JSONResponse(body, self.status, headers)


class TokenEndpoint:
    """`POST /token`: client_credentials and password grants."""

    def __init__(self, issuer: LocalIssuer, *, clock: Callable[[], int], new_id: Callable[[], UUID]) -> None:
        self._issuer = issuer
        self._clock = clock
        self._new_id = new_id
        self._assertions = Assertions(issuer.local)

    async def __call__(self, request: Request) -> Response:
        """Never raises for what a client sends."""
        connection = request.client.host if request.client is not None else ""
        peer = client_of(request.headers.raw, connection, self._issuer.fronts)
        try:
            form = parse_form(request.headers.get("content-type", ""), await _body(request))
            return await self.grant(form, request.headers.getlist("authorization"), peer)
        except TokenError as exc:
            return exc.response()
        except ClientDisconnect:
            return Response(status_code=400)

    async def grant(self, form: Form, authorization: list[str], peer: str) -> Response:
        """The answer to a form, authenticated by it or by the `Authorization` headers. Raises TokenError."""
        now_s = self._clock()
        kind = form.get("grant_type") or ("password" if "username" in form else None)
        if kind is None:
            raise TokenError("invalid_request", "grant_type is missing")
        if kind not in ("client_credentials", "password"):
            raise TokenError("unsupported_grant_type", "only client_credentials and password are granted")
        try:
            client = await self._client(form, authorization, peer, now_s)
            if kind == "password":
                client = await self._user(form, peer, now_s)
        except TooManyRequests as exc:
            raise TokenError("slow_down", exc.summary, status=429, retry_after_s=exc.retry_after_s) from exc
        if client is None:
            raise TokenError("invalid_client", "no client authentication", status=401)
        scopes = granted_scopes(form.get("scope"), client.scopes)
        keys = self._issuer.signing_keys(now_s)
        if not scopes:
            raise TokenError("invalid_scope", "the client holds none of these scopes")
        if not keys:
            raise TokenError("temporarily_unavailable", "there is no signing key", status=503)
        granted = sign(client, scopes, keys[0], self._issuer.local, now_s, self._new_id())
        return JSONResponse(granted.body(), headers=NO_STORE)

    async def _client(self, form: Form, authorization: list[str], peer: str, now_s: int) -> Client | None:
        """The client that proved itself; None when nothing was presented."""
        methods = [bool(authorization), "client_secret" in form, "client_assertion" in form]
        if sum(methods) > 1 or len(authorization) > 1:
            raise TokenError("invalid_request", "more than one client authentication")
        try:
            if authorization:
                return _stated(await self._basic(authorization[0], peer, now_s), form)
            if "client_secret" in form:
                return await self._secret(form.get("client_id", ""), form["client_secret"], peer, now_s)
            if "client_assertion" in form:
                return self._assertion(form, peer, now_s)
        except Unauthenticated as exc:
            raise TokenError("invalid_client", exc.summary, status=401) from exc
        return None

    async def _basic(self, header: str, peer: str, now_s: int) -> Client:
        client_id, secret = parse_basic(header)
        decoded = unquote_plus(client_id), unquote_plus(secret)
        known = self._issuer.clients.find(decoded[0], now_s)
        # RFC 6749 2.3.1 percent-encodes both; many clients do not, which shows only in a chosen password.
        if decoded == (client_id, secret) or known is None:
            return await self._secret(client_id, secret, peer, now_s)
        try:
            return await self._secret(*decoded, peer, now_s)
        except Unauthenticated:
            return await self._secret(client_id, secret, peer, now_s)

    async def _secret(self, client_id: str, secret: str, peer: str, now_s: int) -> Client:
        return await self._issuer.clients.authenticate(client_id, secret, peer, now_s)

    def _assertion(self, form: Form, peer: str, now_s: int) -> Client:
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise TokenError("invalid_request", "client_assertion_type is not that of a JWT")
        clients = self._issuer.clients
        stated = self._assertions.client_id(form["client_assertion"])
        clients.throttle.check(stated, peer, now_s)
        client = clients.find(stated, now_s)
        try:
            if client is None or form.get("client_id", stated) != stated:
                raise Unauthenticated("The client assertion is not valid")
            self._assertions.verify(form["client_assertion"], client, now_s)
        except Unauthenticated:
            clients.throttle.failed(stated, peer, now_s)
            raise
        return client

    async def _user(self, form: Form, peer: str, now_s: int) -> Client:
        if "username" not in form or "password" not in form:
            raise TokenError("invalid_request", "username or password is missing")
        try:
            return await self._secret(form["username"], form["password"], peer, now_s)
        except Unauthenticated as exc:
            raise TokenError("invalid_grant", "the user name or the password is wrong") from exc


def _stated(client: Client, form: Form) -> Client:
    """The client that proved itself, which the form may name too (RFC 6749 2.3). Raises TokenError."""
    if form.get("client_id", client.id) != client.id:
        raise TokenError("invalid_request", "client_id is not the client that authenticates")
    return client


def parse_form(content_type: str, body: bytes) -> Form:
    """The fields of a form, empty ones left out (RFC 6749 3.2). Raises TokenError; repeats are refused."""
    if content_type.split(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise TokenError("invalid_request", "the body must be application/x-www-form-urlencoded")
    try:
        fields = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError as exc:
        raise TokenError("invalid_request", "the form cannot be read") from exc
    form = dict(fields)
    if len(form) != len(fields):
        raise TokenError("invalid_request", "a field is there twice")
    return {name: value for name, value in form.items() if value}


def parse_basic(header: str) -> tuple[str, str]:
    """Name and secret of an `Authorization: Basic` (RFC 7617). Raises Unauthenticated."""
    scheme, _, encoded = header.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError("another scheme")
        name, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (ValueError, binascii.Error) as exc:
        raise Unauthenticated("The Basic credentials cannot be read") from exc
    if not colon or not name:
        raise Unauthenticated("The Basic credentials cannot be read")
    return name, secret


def routes(
    issuer: LocalIssuer,
    *,
    clock: Callable[[], int] = lambda: int(time.time()),
    new_id: Callable[[], UUID] = uuid4,
) -> list[Route]:
    """The built-in issuer's routes: the token endpoint, its key set and its metadata."""

    async def jwks(request: Request) -> Response:
        return JSONResponse(issuer.jwks(clock()), headers=PUBLIC)

    async def metadata(request: Request) -> Response:
        return JSONResponse(server_metadata(issuer.local), headers=PUBLIC)

    endpoint = TokenEndpoint(issuer, clock=clock, new_id=new_id)

    async def token(request: Request) -> Response:
        return await endpoint(request)

    return [
        Route(TOKEN_PATH, token, methods=["POST"]),
        Route(JWKS_PATH, jwks),
        Route(METADATA_PATH, metadata),
        Route(OIDC_PATH, metadata),
    ]


def resource_route(document: Mapping[str, Any]) -> Route:
    """The route of the protected resource metadata (`issuer.resource_metadata`)."""

    async def resource(request: Request) -> Response:
        return JSONResponse(document, headers=PUBLIC)

    return Route(RESOURCE_PATH, resource)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise TokenError("invalid_request", "the form is too long", status=413)
    return bytes(body)
