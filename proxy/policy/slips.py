"""What of a policy holds together, but is probably a slip of the pen. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxy.identity.clients import Client
from proxy.policy.embedded.tuples import Tuple

if TYPE_CHECKING:
    from proxy.policy.files import ClassInfo, Policy

SERVICE = "service:tams"
"""The one service that is asked about."""
_CLASSES, _CLIENTS, _TUPLES = "classes.yaml", "clients.yaml", "tuples.yaml"


def slips(
    tuples: tuple[Tuple, ...],
    classes: Mapping[str, ClassInfo],
    clients: Mapping[str, Client],
    groups: frozenset[str],
) -> Iterator[str]:
    """A sentence for each, with the file that it is in; `groups`: those that tuples name."""
    for client in clients.values():
        for group in sorted(client.groups - groups):
            yield f"{_CLIENTS}: client {client.id} is in group {group}, of which {_TUPLES} says nothing"
    yield from _of_classes(classes, groups)
    named = {t.object.partition(":")[2] for t in tuples if t.object.startswith("auth_class:")}
    for name in sorted(named - classes.keys()):
        yield f"{_CLASSES}: class {name} of {_TUPLES} is not described"
    for each in tuples:
        if each.object.startswith("service:") and each.object != SERVICE:
            yield f"{_TUPLES}: {each} gives nothing: the only service is {SERVICE}"


def _of_classes(classes: Mapping[str, ClassInfo], groups: frozenset[str]) -> Iterator[str]:
    for name, info in classes.items():
        for group in sorted(info.default_groups - groups):
            yield f"{_CLASSES}: class {name} is the default of group {group}, of which {_TUPLES} says nothing"
    told = (
        ("the default of client", lambda info: info.default_clients),
        ("the default of group", lambda info: info.default_groups),
        ("of key prefix", lambda info: {prefix.removesuffix("*") for prefix in info.key_prefixes}),
    )
    for what, of in told:
        for value, names in _shared((name, of(info)) for name, info in classes.items()):
            yield f"{_CLASSES}: classes {' and '.join(names)} are all {what} {value}"


def _shared(held: Iterable[tuple[str, Iterable[str]]]) -> Iterator[tuple[str, list[str]]]:
    """What several classes have alike, and which."""
    found: dict[str, list[str]] = {}
    for name, values in held:
        for value in sorted(values):
            found.setdefault(value, []).append(name)
    return ((value, names) for value, names in found.items() if len(names) > 1)


def ended(policy: Policy, now: float) -> Iterator[str]:
    """The tuples that time has ended, a sentence each. No slips: a grant that ran out did what it should."""
    moment = datetime.fromtimestamp(now, UTC)
    for each in policy.tuples:
        if each.condition is not None and policy.engine.has_ended(each, moment):
            yield f"{_TUPLES}: {each} has ended and counts for nothing any more"
