"""What an OpenFGA server's tuples name, followed by its feed of changes.

Token groups that the policy does not name cannot be told from the server by asking; those it names are sent
along, so the list of them must be the server's own: a group left out may be one that is denied something.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from proxy.errors import TooManyRequests, Unavailable
from proxy.identity.flight import Flights
from proxy.policy.embedded.tuples import Tuple
from proxy.policy.files import boundaries_of, denying_of, groups_of
from proxy.policy.openfga_api import GARBAGE, Api, Pin, changes, tuple_of

LOOK_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What the tuples of a store name at one moment; as of `Policy`. `version` names pin and moment."""

    pin: Pin
    version: str
    groups: frozenset[str]
    denying: frozenset[str]
    boundaries: tuple[float, ...]


class Mirror:
    """The state of the pinned store, at most a second old. `clock` gives monotonic seconds.

    A reading that is cut off goes on where it was. A server with `changelogHorizonOffset` shows changes
    that much later.
    """

    def __init__(self, api: Api, clock: Callable[[], float]) -> None:
        self.state: State | None = None
        self._api = api
        self._clock = clock
        self._flights: Flights[None] = Flights(1)
        self._pin: Pin | None = None
        self._token = ""
        self._tuples: dict[tuple[str, str, str], Tuple] = {}
        self._read_s = float("-inf")

    async def refresh(self, pin: Pin, *, fresh: bool) -> State:
        """The state of now; `fresh`: of no earlier. Raises `errors.Unavailable`."""
        asked_s = self._clock() - (0 if fresh else LOOK_S)
        while self.state is None or self.state.pin is not pin or self._read_s < asked_s:
            try:
                await self._flights.join(b"", lambda: self._read(pin))
            except TooManyRequests as exc:
                raise Unavailable(exc.summary, retry_after_s=1) from exc
        return self.state

    async def _read(self, pin: Pin) -> None:
        started_s = self._clock()
        if self._pin is None or self._pin.store != pin.store:
            self._token, self._tuples, self.state = "", {}, None
        self._pin = pin
        changed = self.state is None or self.state.pin is not pin
        async for page, token in changes(self._api, pin.store, self._token):
            for each in page:
                self._apply(each)
            changed = changed or bool(page)
            self._token = token
        if changed:
            self.state = self._state(pin)
        self._read_s = started_s

    def _apply(self, change: object) -> None:
        try:
            found = tuple_of(change["tuple_key"])  # type: ignore[index]
            written = change["operation"] == "TUPLE_OPERATION_WRITE"  # type: ignore[index]
        except (KeyError, TypeError, AttributeError) as exc:
            raise Unavailable(GARBAGE, retry_after_s=1) from exc
        if written:
            self._tuples[found.key] = found
        else:
            self._tuples.pop(found.key, None)

    def _state(self, pin: Pin) -> State:
        tuples = tuple(self._tuples.values())
        moment = sha256(self._token.encode()).hexdigest()[:8]
        return State(
            pin, f"{pin.model}.{moment}", groups_of(tuples), denying_of(tuples), boundaries_of(tuples)
        )
