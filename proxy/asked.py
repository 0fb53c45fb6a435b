"""What a write asks for, what it is decided on, and what of it may go on. Plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from proxy.body import Use
from proxy.decide import Caller, Verdict
from proxy.errors import BadRequest, Forbidden, NotFound
from proxy.rules import Rule, Target
from proxy.upstream.protocol import BackendFact, Expect, Known, Pairs, Ref

Classes = frozenset[str]
Expected = dict[Ref, Classes | None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may ask for. `segments`: in one bulk registration."""

    segments: int = 10_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A write as it was asked for. `document` is the parsed body, or the error that parsing it gave: it
    is raised only once the caller is known to be allowed to get that far."""

    rule: Rule
    params: Mapping[str, str]
    query: Pairs
    body: bytes
    document: object | BadRequest = None
    limits: Limits = Limits()

    @property
    def target(self) -> Ref:
        """The resource that the path names."""
        return (self.rule.target.value, self.params[self.rule.param])

    @property
    def deletes(self) -> bool:
        """Whether something is to go, whatever body comes with it."""
        return self.rule.operation.startswith("DELETE")

    def parsed(self) -> object:
        """The body. Raises what parsing it raised."""
        if isinstance(self.document, BadRequest):
            raise self.document
        return self.document

    def said(self, name: str) -> str | None:
        """A parameter of the query. Raises `BadRequest` for one that is there twice."""
        values = [value for known, value in self.query if known == name]
        if len(values) > 1:
            raise BadRequest(f"`{name}` is given more than once.")
        return values[0] if values else None


@dataclass(frozen=True, slots=True)
class Spread:
    """A change of classes that goes on to what belongs to a resource (A11).

    `below`: the resource has changed already and its parts are to follow, else it is itself to follow.
    """

    ref: Ref
    added: Classes
    removed: Classes = frozenset()
    below: bool = False


@dataclass(frozen=True, slots=True)
class Authorised:
    """What may be forwarded, and on what that rests. `refused`: segments taken out, by their place, with
    the reason. `spreads`: what is to follow where changes of classes are passed on."""

    body: bytes
    expect: Expect
    refused: Mapping[int, tuple[Use, str]] = field(default_factory=dict)
    spreads: tuple[Spread, ...] = ()


@dataclass(frozen=True, slots=True)
class Ground:
    """All that a write is decided on. `denying`: the classes that deny anyone."""

    caller: Caller
    known: Known
    denying: Classes = frozenset()
    backends: Sequence[BackendFact] = ()


def enforce(verdict: Verdict, target: Target) -> None:
    """Raise what a verdict means to the caller."""
    if verdict is Verdict.HIDE:
        raise NotFound(f"No such {target.value}.")
    if verdict is Verdict.FORBID:
        raise Forbidden(f"Your permissions on this {target.value} do not reach that far.")


def refuse(reason: str | None) -> None:
    """Raise `Forbidden` where there is a reason."""
    if reason is not None:
        raise Forbidden(reason)
