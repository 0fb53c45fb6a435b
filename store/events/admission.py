"""Who may hear of what: asked of somebody else, for the store knows nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
