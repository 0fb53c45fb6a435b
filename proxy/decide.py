"""From permissions and facts to a verdict. Pure: no I/O, no clock.

Sources: AppNote 0016, and the rules A1-A10 of class changes where it is silent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from proxy.policy.protocol import Permissions
from proxy.rules import Action

Classes = frozenset[str]


class Verdict(Enum):
    """ALLOW it, answer as if the resource were absent (HIDE), or say that it is FORBIDDEN."""

    ALLOW = auto()
    HIDE = auto()
    FORBID = auto()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who decides are about: permissions, and what a resource without classes counts as (None: as one
    for administrators). `defaults`: classes for what the caller creates without naming any."""

    permissions: Permissions
    default_class: str | None = None
    defaults: Classes = frozenset()

    @property
    def admin(self) -> bool:
        """Whether class checks are skipped."""
        return self.permissions.admin

    def may(self, action: Action, classes: Classes) -> bool:
        """Whether a resource of these classes may be read, written or deleted. A denial beats all."""
        if self.permissions.admin:
            return True
        held = self.held(action)
        effective = self.effective(classes)
        return not held.isdisjoint(effective) and self.permissions.denied.isdisjoint(effective)

    def held(self, action: Action) -> Classes:
        """The classes through which the action is permitted."""
        permissions = self.permissions
        if action is Action.READ:
            return permissions.read
        return permissions.write if action is Action.WRITE else permissions.delete

    def effective(self, classes: Classes) -> Classes:
        """The classes that count for a resource."""
        if classes or self.default_class is None:
            return classes
        return frozenset((self.default_class,))

    def actions(self, classes: Classes) -> frozenset[Action]:
        """Everything that may be done with a resource of these classes."""
        return frozenset(action for action in Action if self.may(action, classes))

    def may_assign(self, name: str) -> bool:
        """Whether the caller may put a class on, or take it off: it writes through it, or may grant it."""
        permissions = self.permissions
        if permissions.admin:
            return True
        return name not in permissions.denied and (name in permissions.write or name in permissions.grant)


def judge(caller: Caller, action: Action, classes: Classes | None) -> Verdict:
    """The verdict on one resource; `classes` None is one that does not exist.

    No permission at all is the same as absence; some, but not this one, is forbidden.
    """
    if classes is None:
        return Verdict.HIDE
    if caller.may(action, classes):
        return Verdict.ALLOW
    return Verdict.FORBID if caller.actions(classes) else Verdict.HIDE


def change_classes(caller: Caller, before: Classes, after: Classes, denying: Classes) -> str | None:
    """Why the classes of a resource may not change so, None where they may (A1-A5).

    `denying`: classes that deny anyone.
    """
    if before == after or caller.admin:
        return None
    if not caller.may(Action.WRITE, before):
        return "Changing `auth_classes` needs write permission."
    if not after:
        return "Only an administrator removes the last class."
    # A resource without classes has the default one, which its new classes take away.
    present = caller.effective(before)
    if not all(caller.may_assign(name) for name in present ^ after):
        return "You may not put on or take off every one of these classes."
    if not (present - after).isdisjoint(denying):
        return "Only an administrator takes off a class that denies somebody."
    if not caller.actions(after) <= caller.actions(before):
        return "The change would give you more permissions than you have."
    return None


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal with its reason, for the caller."""

    reason: str


def initial_classes(caller: Caller, given: Classes) -> Classes | Refused:
    """The classes of something new (A7): those given, else the caller's defaults."""
    if given:
        if all(caller.may_assign(name) for name in given):
            return given
        return Refused("You may not put on every one of these classes.")
    if caller.defaults and all(caller.may_assign(name) for name in caller.defaults):
        return caller.defaults
    if caller.admin or any(caller.may_assign(name) for name in caller.effective(given)):
        return given
    return Refused("Name the classes of what you create in the tag `auth_classes`.")


def may_create_source(caller: Caller) -> bool:
    """Whether the caller may make something that nothing existing vouches for (A8)."""
    return caller.admin or caller.permissions.creator


def backend_verdict(caller: Caller, action: Action, classes: Classes) -> Verdict:
    """The verdict on a storage backend; an untagged one is everybody's to read and write."""
    if not classes:
        return Verdict.ALLOW
    return judge(caller, action, classes)


def instance_verdict(caller: Caller, owners: Iterable[Classes], *, readable: bool, known: bool) -> Verdict:
    """The verdict on changing an object's instances. `owners`: classes of the flows that must all be
    writable; `readable`: whether any flow that refers to the object is."""
    flows = tuple(owners)
    if not known:
        return Verdict.HIDE
    if caller.admin or (flows and all(caller.may(Action.WRITE, classes) for classes in flows)):
        return Verdict.ALLOW
    seen = readable or any(caller.actions(classes) for classes in flows)
    return Verdict.FORBID if seen else Verdict.HIDE


def passes_scope(held: frozenset[str] | None, needed: frozenset[str]) -> bool:
    """The coarse step; None is a token of an issuer whose tokens carry no scopes."""
    return held is None or not held.isdisjoint(needed)
