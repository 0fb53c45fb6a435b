"""Decisions by an OpenFGA server: a handful of calls per principal and seven seconds."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from proxy.errors import TooManyRequests, Unavailable
from proxy.identity.files import Watched
from proxy.identity.flight import Flights
from proxy.identity.principal import Principal
from proxy.policy.files import time_context
from proxy.policy.local import LISTS, administrator, memberships
from proxy.policy.openfga_api import GARBAGE, Api, Pin, key_of
from proxy.policy.openfga_mirror import Mirror, State
from proxy.policy.protocol import Permissions
from proxy.policy.slips import SERVICE
from proxy.policy.snapshots import Asker, Snapshots, asker

MOST_CONTEXTUAL = 100
"""Contextual tuples that a server takes. Asking in parts and joining the answers would be unsound."""
MOST_AT_ONCE = 1_000
PIN_NAME = "openfga.json"
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


class ServerDecisions:
    """Decisions of an OpenFGA server, under the model that `pin` gives.

    A list of `list_cap` objects or more may have been cut off, and `timeout_s`, of the whole answer, is less
    than the 3 s after which a server cuts lists off: either is an error. `now` gives Unix seconds.
    """

    def __init__(
        self,
        api: Api,
        pin: Callable[[], Pin],
        now: Callable[[], float],
        *,
        timeout_s: float = 1.5,
        list_cap: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._pin = pin
        self._now = now
        self._timeout_s = timeout_s
        self._list_cap = list_cap
        self._mirror = Mirror(api, clock)
        self._snapshots = Snapshots(now)
        self._flights: Flights[Permissions] = Flights(MOST_AT_ONCE)

    @property
    def hits(self) -> int:
        """As `Decisions.hits`."""
        return self._snapshots.hits

    @property
    def misses(self) -> int:
        """As `Decisions.misses`."""
        return self._snapshots.misses

    async def permissions(self, principal: Principal, *, fresh: bool = False) -> Permissions:
        """As `Decisions.permissions`."""
        pin, state = self._pin(), self._mirror.state
        if not fresh and state is not None and state.pin is pin:
            known = self._snapshots.known(principal, state)
            if known is not None:
                return known
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._permissions(principal, pin, fresh)
        except TimeoutError as exc:
            raise Unavailable("The policy engine is too slow.", retry_after_s=1) from exc
        except TooManyRequests as exc:
            raise Unavailable("The policy engine is too busy.", retry_after_s=1) from exc

    async def denying(self) -> frozenset[str]:
        """As `Decisions.denying`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return (await self._mirror.refresh(self._pin(), fresh=True)).denying
        except TimeoutError as exc:
            raise Unavailable("The policy engine is too slow.", retry_after_s=1) from exc

    async def _permissions(self, principal: Principal, pin: Pin, fresh: bool) -> Permissions:
        asked_s = self._now()
        state = await self._mirror.refresh(pin, fresh=fresh)
        who = asker(principal, state.groups)
        if fresh:
            permissions = await self._ask(principal, who, state, asked_s, fresh=True)
        else:
            known = self._snapshots.shared(principal, who, state)
            if known is not None:
                return known
            key = repr((who, state.version)).encode()
            permissions = await self._flights.join(
                key, lambda: self._ask(principal, who, state, asked_s, fresh=False)
            )
        return self._snapshots.keep(principal, who, state, permissions, asked_s, state.boundaries)

    async def _ask(
        self, principal: Principal, who: Asker, state: State, asked_s: float, *, fresh: bool
    ) -> Permissions:
        if len(who.groups) > MOST_CONTEXTUAL:
            raise Unavailable(
                f"The token has more than {MOST_CONTEXTUAL} groups of the policy.", retry_after_s=60
            )
        user = principal.user
        tuples = {"tuple_keys": [key_of(each) for each in memberships(user, who.groups)]}
        common = {"contextual_tuples": tuples, "context": time_context(asked_s)}
        consistency = "HIGHER_CONSISTENCY" if fresh else "MINIMIZE_LATENCY"
        question = {"authorization_model_id": state.pin.model, "consistency": consistency}
        admin, creator = await self._holds(state.pin, user, common, question)
        if admin or principal.is_admin_by_scope:
            return administrator(creator, state.version)
        read, write, delete, grant, denied = await asyncio.gather(
            *(self._list(state.pin, user, relation, {**common, **question}) for relation in LISTS)
        )
        return Permissions(read, write, delete, grant, denied, False, creator, state.version)

    async def _holds(
        self, pin: Pin, user: str, common: dict[str, Any], question: dict[str, Any]
    ) -> tuple[bool, bool]:
        relations = ("can_administer", "can_create")
        checks = [
            {
                "tuple_key": {"user": user, "relation": relation, "object": SERVICE},
                "correlation_id": relation.replace("_", "-"),
                **common,
            }
            for relation in relations
        ]
        answer = await self._api.post(
            "BatchCheck", f"/stores/{pin.store}/batch-check", {"checks": checks, **question}
        )
        results = answer.get("result")
        if not isinstance(results, dict) or not all(isinstance(each, dict) for each in results.values()):
            raise Unavailable(GARBAGE, retry_after_s=1)
        allowed = []
        for each in checks:
            result = results.get(each["correlation_id"], {})
            if "error" in result or not isinstance(result.get("allowed"), bool):
                raise Unavailable(GARBAGE, retry_after_s=1, reason=_said(result.get("error")))
            allowed.append(result["allowed"])
        return allowed[0], allowed[1]

    async def _list(self, pin: Pin, user: str, relation: str, question: dict[str, Any]) -> frozenset[str]:
        body = {"user": user, "relation": relation, "type": "auth_class", **question}
        answer = await self._api.post("ListObjects", f"/stores/{pin.store}/list-objects", body)
        objects = answer.get("objects")
        if not isinstance(objects, list) or not all(
            isinstance(each, str) and each.startswith("auth_class:") for each in objects
        ):
            raise Unavailable(GARBAGE, retry_after_s=1)
        if len(objects) >= self._list_cap:
            raise Unavailable("The policy engine's answer may have been cut off.", retry_after_s=5)
        return frozenset(each.partition(":")[2] for each in objects)


def _said(error: object) -> str:
    """What a server says of a check that it cannot answer."""
    return str(error.get("message", ""))[:500] if isinstance(error, dict) else ""


class FilePin:
    """The pin that `tams-proxy policy apply` leaves in the data folder, followed as it changes."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._now = now
        absent: Pin | None = None
        self._watched: Watched[Pin | None] = Watched(path, parse_pin, absent=absent, private=False)

    def __call__(self) -> Pin:
        """The pin of now. Raises `errors.Unavailable` before there is one."""
        pin = self._watched.current(int(self._now()))
        if pin is None:
            raise Unavailable("No policy has been applied to the policy engine yet.", retry_after_s=10)
        return pin


def parse_pin(data: bytes) -> Pin:
    """The pin of a file. ValueError when it is none."""
    try:
        said = orjson.loads(data)
        pin = Pin(said["store"], said["model"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
        raise ValueError("is no pin; run `tams-proxy policy apply`") from exc
    if not is_id(pin.store) or not is_id(pin.model):
        raise ValueError("store and model must be ids of OpenFGA")
    return pin


def dump_pin(pin: Pin) -> bytes:
    """The file of a pin."""
    return orjson.dumps({"store": pin.store, "model": pin.model}, option=orjson.OPT_APPEND_NEWLINE)


def is_id(text: object) -> bool:
    """Whether it is an id of OpenFGA, a ULID."""
    return isinstance(text, str) and _ULID.fullmatch(text) is not None
