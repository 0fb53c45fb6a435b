"""Who may hear of what: asked of somebody else, for the store knows nobody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from store.errors import Unavailable
from store.metadata.rows import Event
from store.view import View


@dataclass(frozen=True, slots=True)
class Admitted:
    """An event as its listener may know it: hidden ids taken out of its body and of its collections. `view`
    says which storage backends the listener reads from; None: all."""

    event: Event
    view: View | None


class Lapsed(Exception):
    """The owner's rights are not known any more. The text says so, to whoever reads the webhook."""


class Admit(Protocol):
    """Decides for an owner (opaque; None where the store is alone)."""

    async def __call__(self, owner: bytes | None, event: Event) -> Admitted | None:
        """The event as the owner may know it; None: not at all.

        Raises `Lapsed`, and `errors.Unavailable` while it cannot be decided: to be asked again, never taken
        for an answer.
        """
        ...


async def everybody(owner: bytes | None, event: Event) -> Admitted:
    """The store alone keeps nothing from anyone."""
    return Admitted(event, None)


class Known(Protocol):
    """What an owner may know of an event, in the words of whoever decides."""

    @property
    def body(self) -> dict[str, Any]: ...

    @property
    def flow_collected_by(self) -> tuple[str, ...]: ...

    @property
    def source_collected_by(self) -> tuple[str, ...]: ...

    @property
    def view(self) -> ViewLike: ...


class ViewLike(Protocol):
    """A View, whoever defines it."""

    @property
    def admin(self) -> bool: ...
    @property
    def allow(self) -> frozenset[str]: ...
    @property
    def deny(self) -> frozenset[str]: ...
    @property
    def default_class(self) -> str | None: ...


def deciding(
    decide: Callable[[bytes | None, Event], Awaitable[Known | None]],
    lapsed: type[Exception],
    failure: type[Exception],
) -> Admit:
    """`Admit` by somebody in the same process who has types and exceptions of their own: `lapsed` for owners
    whose rights are not known any more, `failure` while there is no decision."""

    async def admit(owner: bytes | None, event: Event) -> Admitted | None:
        try:
            known = await decide(owner, event)
        except lapsed as exc:
            raise Lapsed(str(exc)) from exc
        except failure as exc:
            raise Unavailable(str(exc)) from exc
        if known is None:
            return None
        seen = replace(
            event,
            body=known.body,
            flow_collected_by=known.flow_collected_by,
            source_collected_by=known.source_collected_by,
        )
        view = known.view
        return Admitted(seen, View(view.admin, view.allow, view.deny, view.default_class))

    return admit
