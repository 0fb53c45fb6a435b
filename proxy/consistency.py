"""Whether the table of rules can be gone by: unknown or contradictory rows are refused at start. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from proxy.identity.principal import ADMIN, DELETE, READ, WRITE
from proxy.rules import Action, Check, Methods, Rule, Target

METHODS = ("GET", "PUT", "POST", "DELETE")
SCOPES = frozenset((READ, WRITE, DELETE, ADMIN))
_UNTARGETED = frozenset((Target.NOTHING, Target.ADMIN, Target.LIST, Target.BACKENDS))
_TARGETS: Mapping[Check, frozenset[Target]] = {
    Check.PUT_FLOW: frozenset((Target.FLOW,)),
    Check.TAG: frozenset((Target.FLOW, Target.SOURCE)),
    Check.COLLECTION: frozenset((Target.FLOW,)),
    Check.SEGMENTS: frozenset((Target.FLOW,)),
    Check.STORAGE: frozenset((Target.FLOW,)),
    Check.INSTANCE: frozenset((Target.OBJECT,)),
    Check.PUT_WEBHOOK: frozenset((Target.WEBHOOK,)),
    Check.NEW_WEBHOOK: frozenset((Target.NOTHING,)),
    Check.NEW_PROFILE: frozenset((Target.PROFILE,)),
}
"""What each check can decide on."""


def contradictions(rules: Mapping[str, Methods]) -> list[str]:
    """Everything that is wrong with a table, one sentence each."""
    found = []
    places: dict[str, str] = {}
    for path, methods in rules.items():
        for method, rule in methods.items():
            here = f"{method} {path}"
            first = places.setdefault(rule.operation, here)
            if first != here:
                found.append(f"{here}: its operation {rule.operation} is that of {first} already")
            found += [f"{here}: {problem}" for problem in _problems(path, method, rule)]
    return found


def _problems(path: str, method: str, rule: Rule) -> Iterator[str]:
    if method not in METHODS:
        yield "there is no such method; HEAD is GET"
    if not rule.scopes:
        yield "no scope passes it"
    elif not rule.scopes <= SCOPES:
        yield f"unknown scopes {', '.join(sorted(rule.scopes - SCOPES))}"
    elif ADMIN not in rule.scopes:
        yield "the scope of administrators must pass it"
    if bool(rule.param) is (rule.target in _UNTARGETED):
        yield f"the target {rule.target.value} and the parameter {rule.param!r} do not go together"
    elif rule.param and f"{{{rule.param}}}" not in path:
        yield f"the path has no parameter {rule.param!r}"
    reads = method == "GET"
    if reads and rule.check is not Check.NOTHING:
        yield "nothing is checked of the body of a read"
    if reads and rule.action is Action.WRITE:
        yield "a read is no write"
    if not reads and rule.action is Action.READ and rule.target not in (Target.NOTHING, Target.ADMIN):
        yield "a write is no read"
    if not reads and rule.target in (Target.LIST, Target.BACKENDS):
        yield f"the target {rule.target.value} can only be read"
    if not reads and rule.target is Target.NOTHING and rule.check is Check.NOTHING:
        yield "a write on nothing in particular needs a check"
    if rule.target not in _TARGETS.get(rule.check, frozenset((rule.target,))):
        yield f"the check {rule.check.name} does not decide on the target {rule.target.value}"
    if rule.target is Target.OBJECT and not reads and rule.check is not Check.INSTANCE:
        yield "only its instances can be changed of an object"
