"""boto3 off the event loop: which endpoint, how often, and what its failures mean to the store.

This is the one module that knows boto3; its replies are untyped and leave here only to be read at once.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from store import errors
from store.media.config import Chain, KeyFiles, S3Config
from store.media.endpoints import Endpoints
from store.media.sigv4 import Addressing, Keys, is_virtual_bucket
from store.threads import Closed, Late, Threads

P = ParamSpec("P")
T = TypeVar("T")
Reply = dict[str, Any]

_THREADS = 16
_BUDGET_S = 10.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_PROBE_EVERY_S = 10.0
_CLOSING_S = 5.0
# A service that is slower than this with what it is sent or asked for is as good as gone; a reply that is no
# object's bytes has this many.
_SLOWEST_BYTES_S = 256 * 1024
_REPLY_BYTES = 1 << 20
_PATIENT_TIMEOUT_S = 120
_PATIENT_S = 900.0
_TRANSIENT = {
    "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "ThrottlingException",
    "RequestLimitExceeded", "TooManyRequests", "OperationAborted",
}  # fmt: skip
_SPACE = {"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
_SETUP = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)
_CONNECTION = (
    EndpointConnectionError,
    ConnectTimeoutError,
    ConnectionClosedError,
    ReadTimeoutError,
    SSLError,
)
_NEVER_SENT = (EndpointConnectionError, ConnectTimeoutError, SSLError)


class BadReply(BotoCoreError):
    """The service's answer is not one of S3."""

    fmt = "the answer is not one of S3"


def field_of(reply: Reply, name: str) -> Any:
    """A field that S3 always sends. Raises `errors.Unavailable` when it is missing."""
    try:
        return reply[name]
    except KeyError as exc:
        raise errors.Unavailable(f"the storage backend's answer lacks {name}") from exc


def code_of(exc: BaseException | None) -> str:
    """S3's own word for an error, or the name of boto3's; empty for others."""
    if isinstance(exc, ClientError):
        return str(exc.response.get("Error", {}).get("Code", ""))
    return type(exc).__name__ if isinstance(exc, BotoCoreError) else ""


def status_of(exc: BaseException | None) -> int:
    """The HTTP status of an error, 0 when there was no answer."""
    if not isinstance(exc, ClientError):
        return 0
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_transient(exc: ClientError | BotoCoreError) -> bool:
    """Whether the same call may succeed a moment later."""
    if isinstance(exc, ClientError):
        status = status_of(exc)
        return code_of(exc) in _TRANSIENT or status == 429 or (status >= 500 and status not in {501, 507})
    return not isinstance(exc, (ParamValidationError, *_SETUP))


def translated(exc: ClientError | BotoCoreError) -> errors.Error:
    """The store's error. Configuration that S3 refuses is the backend's failure, not the caller's."""
    code, status = code_of(exc), status_of(exc)
    if code in _SPACE or status == 507:
        return errors.Full("no space left on the storage backend")
    if isinstance(exc, ParamValidationError):
        return errors.BadRequest("the key cannot be an object's name")
    if status == 404 and code != "NoSuchBucket":
        return errors.NotFound("no such media")
    if status == 416:
        return errors.RangeNotSatisfiable("no byte of the object is in the range", size_bytes=0)
    if status == 412:
        return errors.PreconditionFailed("the object has changed")
    return errors.Unavailable(f"the storage backend failed ({code})")


def resolved_addressing(config: S3Config) -> Addressing:
    """Path style for a service of one's own, virtual hosts for AWS, unless configured."""
    if config.addressing != "auto":
        return config.addressing
    return "virtual" if not config.endpoints and is_virtual_bucket(config.bucket, "https") else "path"


class Calls:
    """S3 operations by boto3's names, on a healthy endpoint, repeated while that is safe and in time."""

    def __init__(self, config: S3Config, *, pause: Callable[[], float] = random.random) -> None:
        """`pause` gives the jitter, from 0 to 1."""
        self._config = config
        self._pause = pause
        self._session = _session(config)
        self._threads = Threads(_THREADS, f"s3-{config.id}")
        self._clients = [self._client(url, config.timeout_s) for url in config.urls()]
        self._patient: dict[int, Any] = {}
        self._making = threading.Lock()
        self.keys = self._fresh_keys()
        refreshed = isinstance(config.credentials, Chain)
        self.endpoints = Endpoints(
            len(self._clients),
            self._answers,
            beat=self._refresh if refreshed else None,
            every_s=_PROBE_EVERY_S,
        )

    async def __call__(
        self, operation: str, *, idempotent: bool = True, patient: bool = False, **parameters: Any
    ) -> Reply:
        """The operation's reply. `patient` calls may take minutes (copies inside S3).

        Transient failures are repeated with jitter, at most `attempts` times and within ten seconds, on
        another endpoint when one does not answer; what is not idempotent only when it surely had no effect.
        Raises the store's errors, with boto3's as the cause.
        """
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        attempt = 1
        while True:
            index = self.endpoints.of(str(parameters.get("Key", "")))
            try:
                if patient:
                    client = await self.run(_PATIENT_S, self._patient_client, index)
                    return await self._once(client, operation, parameters, _PATIENT_S)
                within_s = self.within_s(len(parameters.get("Body", b"")))
                return await self._once(self._clients[index], operation, parameters, within_s)
            except (ClientError, BotoCoreError) as exc:
                if isinstance(exc, _CONNECTION):
                    self.endpoints.failed(index)
                late = loop.time() - started_s + self._config.timeout_s > _BUDGET_S
                again = is_transient(exc) and (idempotent or _had_no_effect(exc))
                if not again or late or attempt >= self._config.attempts:
                    raise translated(exc) from exc
            await self.back_off(attempt)
            attempt += 1

    async def back_off(self, attempt: int) -> None:
        """Wait before the attempt that follows this one (the first is 1)."""
        longest_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
        await asyncio.sleep(longest_s * (0.5 + 0.5 * self._pause()))

    async def once(self, index: int, operation: str, **parameters: Any) -> Reply:
        """One attempt on one endpoint, boto3's own exceptions: for diagnosis."""
        return await self._once(self._clients[index], operation, parameters, self.within_s(0))

    async def run(self, within_s: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A blocking call on the threads. Raises botocore's `ReadTimeoutError` when it takes too long."""
        try:
            return await self._threads.run(within_s, call, *args, **kwargs)
        except Late as exc:
            raise ReadTimeoutError(endpoint_url=self._config.id, error=exc) from exc
        except Closed as exc:
            raise errors.Unavailable("the storage backend is closed") from exc

    def within_s(self, size_bytes: int) -> float:
        """How long a call may take that moves so many bytes."""
        return self._config.timeout_s + (size_bytes or _REPLY_BYTES) / _SLOWEST_BYTES_S

    def later(self, call: Callable[[], object]) -> None:
        """A blocking call that nobody waits for."""
        try:
            self._threads.later(call)
        except Closed:  # no thread is left to wait for
            call()

    async def close(self) -> None:
        """Wait for what is under way and let go of the connections."""
        await asyncio.to_thread(self.endpoints.close)
        await self._threads.close(_CLOSING_S)
        for client in (*self._clients, *self._patient.values()):
            client.close()

    async def _once(self, client: Any, operation: str, parameters: Reply, within_s: float) -> Reply:
        call = getattr(client, operation)
        try:
            reply: Reply = await self.run(within_s, call, **{"Bucket": self._config.bucket, **parameters})
        except (ResponseParserError, ValueError) as exc:
            # What boto3 raises for an answer that is not S3's, beside its own errors.
            raise BadReply from exc
        return reply

    def _patient_client(self, index: int) -> Any:
        # Made when first needed: a client costs a tenth of a second.
        with self._making:
            if index not in self._patient:
                self._patient[index] = self._client(self._config.urls()[index], _PATIENT_TIMEOUT_S)
            return self._patient[index]

    def _client(self, url: str, timeout_s: int) -> Any:
        config = self._config
        return self._session.client(
            "s3",
            endpoint_url=url,
            region_name=config.region or "us-east-1",
            verify=str(config.ca_file) if config.ca_file is not None else config.verify_tls,
            config=Config(
                signature_version="s3v4",
                connect_timeout=min(2, timeout_s),
                read_timeout=timeout_s,
                max_pool_connections=_THREADS,
                # We repeat calls ourselves: by endpoint, within one budget.
                retries={"total_max_attempts": 1},
                s3={"addressing_style": resolved_addressing(config)},
                # Checksums that only AWS knows make other services refuse the call.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def _answers(self, index: int) -> bool:
        try:
            self._clients[index].head_bucket(Bucket=self._config.bucket)
        except ClientError as exc:
            return status_of(exc) < 500
        except BotoCoreError:
            return False
        return True

    def _refresh(self) -> None:
        # What cannot be refreshed now is tried again at the next beat; boto3 refreshes well before the end.
        try:
            fresh = self._fresh_keys()
        except errors.Unavailable:
            return
        if fresh != self.keys:
            self.keys = fresh

    def _fresh_keys(self) -> Keys:
        try:
            found = self._session.get_credentials()
            frozen = None if found is None else found.get_frozen_credentials()
        except BotoCoreError as exc:
            raise errors.Unavailable(f"the AWS chain failed ({code_of(exc)})") from exc
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise errors.Unavailable("there are no credentials in the AWS chain")
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)


def _had_no_effect(exc: ClientError | BotoCoreError) -> bool:
    return isinstance(exc, _NEVER_SENT) or status_of(exc) in {429, 503}


def _session(config: S3Config) -> boto3.Session:
    credentials = config.credentials
    try:
        if isinstance(credentials, Chain):
            return boto3.Session(profile_name=credentials.profile)
        keys = _read(credentials) if isinstance(credentials, KeyFiles) else credentials
    except (OSError, UnicodeDecodeError) as exc:
        raise errors.Unavailable(f"storage backend {config.id}: a credential file cannot be read") from exc
    except BotoCoreError as exc:
        raise errors.Unavailable(f"storage backend {config.id}: {exc}") from exc
    return boto3.Session(
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        aws_session_token=keys.session_token,
    )


def _read(files: KeyFiles) -> Keys:
    token = None if files.session_token is None else files.session_token.read_text().strip()
    return Keys(files.access_key.read_text().strip(), files.secret_key.read_text().strip(), token)
