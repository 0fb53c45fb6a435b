"""The SDK's connection to a VAST cluster, made to fit a server: bounded in time, direct, with failover."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests
import vastdb.errors
from requests.adapters import HTTPAdapter
from urllib3.util import Url
from vastdb import _internal
from vastdb._session_context import SessionContext
from vastdb.config import BackoffConfig, SessionConfig
from vastdb.features import Features
from vastdb.session import Session

from store import errors

REST_S: Final = 10.0
"""For how long an endpoint that failed is not asked while another one can be."""


@dataclass(frozen=True, slots=True)
class VastConfig:
    """How to reach a cluster, and where on it the tables are.

    `timeout_s` bounds one request, `deadline_s` all that a call of the metadata protocol takes. `threads`
    is how many calls are under way at most. `ca_file` replaces the system's authorities.
    """

    endpoints: tuple[str, ...]
    bucket: str
    schema: str
    access_key: str
    secret_key: str
    verify_tls: bool = True
    ca_file: Path | None = None
    timeout_s: float = 4.0
    deadline_s: float = 8.0
    threads: int = 10

    def __repr__(self) -> str:
        """Without the secret."""
        return f"VastConfig({', '.join(self.endpoints)}, {self.bucket}/{self.schema})"


class Transient(Exception):
    """A request failed in a way that may pass; whether it was carried out is not known."""


class Api(_internal.VastdbApi):  # type: ignore[misc]
    """The SDK's requests, with one connection pool for all threads.

    `until` sets, for the calling thread, when its requests must be over. Environment proxies and
    authorities do not count. Endpoints are used in turn after failures only.
    """

    def __init__(self, config: VastConfig) -> None:
        self._config = config
        self._local = threading.local()
        self._lock = threading.Lock()
        self._current = 0
        self._failed: dict[int, float] = {}
        super().__init__(
            access_key=config.access_key,
            secret_key=config.secret_key,
            endpoints=list(config.endpoints),
            max_entities_per_page=1_000,
            ssl_verify=str(config.ca_file) if config.ca_file and config.verify_tls else config.verify_tls,
            timeout=config.timeout_s,
            backoff_config=BackoffConfig(max_tries=1, max_time=config.timeout_s),
        )

    def until(self, deadline: float) -> None:
        """Let the requests of this thread end by `deadline`, a time of `time.monotonic`."""
        self._local.deadline = deadline

    @property
    def timeout(self) -> float:
        """How long the next request of this thread may take. Raises `Transient` when no time is left."""
        left = getattr(self._local, "deadline", float("inf")) - time.monotonic()
        if left <= 0:
            raise Transient("no time is left")
        return min(self._config.timeout_s, max(left, 0.05))

    @timeout.setter
    def timeout(self, value: float) -> None:
        """The SDK sets what it was given; the configuration says the same."""

    def next_endpoint(self) -> Url:
        """The endpoint in use."""
        url: Url = self._endpoints[self._current]
        return url

    def _turn_away(self, url: Url) -> None:
        """Use another endpoint than one that failed, if there is one that did not lately."""
        now = time.monotonic()
        with self._lock:
            if self._endpoints[self._current].netloc != url.netloc:
                return
            self._failed[self._current] = now
            count = len(self._endpoints)
            order = [(self._current + step) % count for step in range(1, count + 1)]
            rested = [each for each in order if now - self._failed.get(each, -REST_S) >= REST_S]
            self._current = (rested or order)[0]

    def _session_get_or_create(self, url: Url) -> requests.Session:
        """By host and port, since a signature covers both."""
        place = url.netloc
        session: requests.Session | None = self._sessions.get(place)
        if session is None:
            with self._lock:
                session = self._sessions.get(place) or self._session_create(url)
                self._sessions[place] = session
        return session

    def _session_create(self, url: Url) -> requests.Session:
        session: requests.Session = super()._session_create(url)
        session.trust_env = False
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=self._config.threads))
        return session

    def _single_request(self, *, method: str, url: Url, **given: Any) -> requests.Response:
        try:
            response: requests.Response = super()._single_request(method=method, url=url, **given)
            return response
        except vastdb.errors.ConnectionError as exc:
            self._turn_away(url)
            raise Transient(f"{url.netloc} cannot be reached") from exc
        except requests.RequestException as exc:
            self._turn_away(url)
            raise Transient(f"{url.netloc} does not answer") from exc
        except ValueError as exc:
            # The SDK knows a few statuses only and fails over the others.
            raise Transient(f"{url.netloc} answers strangely: {exc}") from exc

    def with_endpoints(self, endpoints: list[str]) -> Api:
        """This one: all endpoints lead to the same cluster."""
        return self

    def __exit__(self, *_: object) -> None:
        """The SDK leaves a connection after each query; ours stay open until `shut`."""

    def shut(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            session.close()


class VastSession(Session):  # type: ignore[misc]
    """The SDK's session on an `Api`. Not to be taken along through a fork."""

    def __init__(self, api: Api, config: VastConfig) -> None:
        self.access, self.secret = config.access_key, config.secret_key
        self.api = api
        endpoints = list(config.endpoints)
        self._context = SessionContext(
            api=api, endpoint=endpoints[0], config=SessionConfig(data_endpoints=endpoints)
        )
        self.features = Features(api.vast_version)
        self.adbc_driver_path = None
        self._end_user = None


def connect(config: VastConfig, deadline_s: float) -> VastSession:
    """A session on the first endpoint that answers. Raises `errors.Unavailable`, in words for operators."""
    # What fails is told by those who asked; the SDK would log every refusal with its headers.
    logging.getLogger("vastdb").setLevel(logging.CRITICAL)
    problem = "no endpoint is configured"
    for turn in range(len(config.endpoints)):
        order = config.endpoints[turn:] + config.endpoints[:turn]
        try:
            return VastSession(_probed(_ordered(config, order), deadline_s), config)
        except Transient as exc:
            problem = str(exc)
        except vastdb.errors.Forbidden as exc:
            raise errors.Unavailable(f"{order[0]} refuses the credentials: {exc.code}.") from exc
        except vastdb.errors.HttpError as exc:
            problem = f"{order[0]} answers {exc.status} {exc.code}"
        except NotImplementedError as exc:
            raise errors.Unavailable(f"{order[0]} is no VAST DB endpoint: {exc}") from exc
    raise errors.Unavailable(f"The VAST cluster cannot be reached: {problem}.")


def _ordered(config: VastConfig, endpoints: tuple[str, ...]) -> VastConfig:
    names = {name: getattr(config, name) for name in config.__slots__}
    return VastConfig(**{**names, "endpoints": endpoints})


def _probed(config: VastConfig, deadline_s: float) -> Api:
    """The SDK asks for the version when it is made."""
    return Api(config)
