"""Calls of an OpenFGA server by its SDK, with plain dicts, bounded, and told apart when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from openfga_sdk import ClientConfiguration, OpenFgaClient
from openfga_sdk.configuration import RetryParams
from openfga_sdk.exceptions import (
    ApiException,
    OpenApiException,
    RateLimitExceededError,
    ServiceException,
    UnauthorizedException,
)

from proxy.errors import BadUpstream, Unavailable
from proxy.policy.embedded.tuples import ConditionRef, Tuple
from proxy.upstream.credentials import Credential

ATTEMPTS = 2
PAUSE_S = 0.05
PAGE = 100
"""Tuples or changes on a page, the server's most; also the most that one write may hold."""
DOWN = "The policy engine cannot be reached."
GARBAGE = "The policy engine gives no usable answer."


class Refused(Unavailable):
    """The server understood and said no: to a caller it cannot decide, to an operator `reason` says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__("The policy engine refuses the question.", retry_after_s=5, reason=reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Pin:
    """The store that is asked, and the model that it is asked under."""

    store: str
    model: str


class Api:
    """A server. Every call is bounded by `timeout_s` and made at most twice; made on a running loop."""

    def __init__(
        self, url: str, credential: Credential, *, timeout_s: float, ca_file: Path | None = None
    ) -> None:
        # The SDK's own retries follow Retry-After for up to half an hour, and its default timeout is 300 s.
        configuration = ClientConfiguration(
            api_url=url.rstrip("/"),
            retry_params=RetryParams(max_retry=0),  # type: ignore[no-untyped-call]
            timeout_millisec=max(1, int(timeout_s * 1000)),
            ssl_ca_cert=None if ca_file is None else str(ca_file),
        )
        self._client = OpenFgaClient(configuration)
        self._credential = credential
        self._timeout_s = timeout_s

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def get(self, operation: str, path: str, query: Mapping[str, str | int]) -> dict[str, Any]:
        """The answer to a GET. Raises `Unavailable`, `Refused`."""
        return await self._call(operation, "GET", path, query=query)

    async def post(self, operation: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a POST that changes nothing. Raises `Unavailable`, `Refused`."""
        return await self._call(operation, "POST", path, body=body)

    async def write(self, operation: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a POST that changes something: made once. Raises `Unavailable`, `Refused`."""
        return await self._call(operation, "POST", path, body=body, attempts=1)

    async def _call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str | int] | None = None,
        attempts: int = ATTEMPTS,
    ) -> dict[str, Any]:
        for left in range(attempts - 1, -1, -1):
            try:
                return await self._once(operation, method, path, body, query)
            except _TryAgain as exc:
                if not left:
                    raise Unavailable(DOWN, retry_after_s=1) from exc
            await asyncio.sleep(PAUSE_S)
        raise Unavailable(DOWN, retry_after_s=1)

    async def _once(
        self,
        operation: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str | int] | None,
    ) -> dict[str, Any]:
        try:
            proof = await self._credential.proof()
        except BadUpstream as exc:
            raise Unavailable(exc.summary, retry_after_s=5) from exc
        headers = {"Authorization": proof.authorization} if proof.authorization else {}
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._client.execute_api_request(
                    operation_name=operation,
                    method=method,
                    path=path,
                    body=None if body is None else dict(body),
                    query_params=dict(query or {}),
                    headers=headers,
                )
        except (aiohttp.ClientError, OpenApiException, OSError, UnicodeDecodeError, AttributeError) as exc:
            # AttributeError: the telemetry of the SDK (0.10.5) trips over the body of a refusal while it
            # handles it. UnicodeDecodeError: it decodes every body for its log.
            failure = exc.__context__ if isinstance(exc, AttributeError) else exc
            if isinstance(failure, UnauthorizedException) and self._credential.refused(proof):
                raise _TryAgain from failure
            raise _translated(failure) from exc
        if not isinstance(answer.body, dict):
            raise Unavailable(GARBAGE, retry_after_s=1)
        return answer.body


class _TryAgain(Exception):
    """A failure that may be gone the next time."""


def _translated(failure: BaseException | None) -> Exception:
    """What a failure of a call means."""
    if isinstance(failure, ServiceException | RateLimitExceededError | aiohttp.ClientConnectionError):
        return _TryAgain()
    if isinstance(failure, ApiException):
        return Refused(int(failure.status or 0), _reason(failure))
    if isinstance(failure, OSError | aiohttp.ClientError):
        return Unavailable(DOWN, retry_after_s=1)
    return Unavailable(GARBAGE, retry_after_s=1)


def _reason(exc: ApiException) -> str:
    return " ".join(str(exc.body or exc.reason or exc.status).split())[:500]


async def changes(api: Api, store: str, token: str) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
    """The pages of changes after a token ("" is the beginning), each with the token after it."""
    while True:
        query: dict[str, str | int] = {"page_size": PAGE}
        if token:
            query["continuation_token"] = token
        answer = await api.get("ReadChanges", f"/stores/{store}/changes", query)
        page, after = answer.get("changes"), answer.get("continuation_token")
        if not isinstance(page, list) or not isinstance(after, str):
            raise Unavailable(GARBAGE, retry_after_s=1)
        yield page, after
        if not page or after == token:
            return
        token = after


async def stored(api: Api, store: str) -> list[Tuple]:
    """All tuples of a store."""
    found: list[Tuple] = []
    body: dict[str, Any] = {"page_size": PAGE, "consistency": "HIGHER_CONSISTENCY"}
    while True:
        answer = await api.post("Read", f"/stores/{store}/read", body)
        try:
            found += [tuple_of(each["key"]) for each in answer["tuples"]]
            token = answer.get("continuation_token") or ""
        except (KeyError, TypeError, AttributeError) as exc:
            raise Unavailable(GARBAGE, retry_after_s=1) from exc
        if not token:
            return found
        body["continuation_token"] = token


def tuple_of(key: Mapping[str, Any]) -> Tuple:
    """A tuple key of the API. Raises KeyError, TypeError or AttributeError for what is none."""
    condition = key.get("condition")
    ref = ConditionRef(condition["name"], dict(condition.get("context") or {})) if condition else None
    return Tuple(str(key["user"]), str(key["relation"]), str(key["object"]), ref)


def key_of(each: Tuple) -> dict[str, Any]:
    """A tuple as the API takes it."""
    key: dict[str, Any] = {"user": each.user, "relation": each.relation, "object": each.object}
    if each.condition is not None:
        key["condition"] = {"name": each.condition.name, "context": dict(each.condition.context)}
    return key
