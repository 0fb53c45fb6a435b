"""How long a permission snapshot takes in the embedded evaluator: 1,000 classes, 10,000 grants.

Run: python -m tests.bench.policy_snapshot. Medians: figures of one machine, not a test.
"""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from time import perf_counter

from proxy.decide import Caller
from proxy.identity.principal import Principal
from proxy.policy.embedded import Engine, Tuple, parse_model
from proxy.policy.files import Policy, denying_of, groups_of
from proxy.policy.local import evaluate
from proxy.policy.protocol import Permissions
from proxy.rules import Action
from tests.bench.table import Result, show

CLASSES = 1_000
GRANTS = 10_000
GROUPS = 100
USERS = 500
ROUNDS = 30
LIMIT_MS = 20.0
LIMIT_US = 2.0


def world(seed: int = 1) -> list[Tuple]:
    """Groups nested three deep, users in some of them, grants to groups for the most part."""
    chance = random.Random(seed)
    tuples = {}
    for group in range(GROUPS):
        if group >= 10:
            parent = Tuple(f"group:g{group}#member", "member", f"group:g{group // 10}")
            tuples[parent.key] = parent
    for user in range(USERS):
        for _ in range(3):
            member = Tuple(f"user:local/u{user}", "member", f"group:g{chance.randrange(GROUPS)}")
            tuples[member.key] = member
    grants = 0
    while grants < GRANTS:
        whom = (
            f"group:g{chance.randrange(GROUPS)}#member"
            if chance.random() < 0.8
            else f"user:local/u{chance.randrange(USERS)}"
        )
        relation = chance.choice(("reader", "reader", "writer", "deleter", "granter", "denied"))
        grant = Tuple(whom, relation, f"auth_class:c{chance.randrange(CLASSES)}")
        grants += grant.key not in tuples
        tuples[grant.key] = grant
    return list(tuples.values())


def policy(tuples: list[Tuple]) -> Policy:
    """The policy of these tuples under the sample model."""
    text = (Path(__file__).resolve().parents[2] / "policies" / "model.fga").read_text(encoding="utf-8")
    engine = Engine(parse_model(text), tuples)
    return Policy("bench", engine, tuple(tuples), {}, groups_of(tuples), denying_of(tuples), ())


def timed(policy: Policy, number: int, groups: int) -> float:
    """Seconds of one snapshot, as a request finds it; the token brings so many groups."""
    held = frozenset(f"g{50 + number}" for number in range(groups))
    principal = Principal("local", f"u{number}", None, held, None, False, 1 << 40)
    start = perf_counter()
    found = evaluate(policy, principal, 0.0)
    seconds = perf_counter() - start
    assert found.read or not groups
    return seconds


def snapshots(rounds: int = ROUNDS) -> list[Result]:
    """P9: a snapshot, by how many groups the token brings, and a decision on one; against their limits."""
    crowded = policy(world())
    timed(crowded, 0, 0)
    found = []
    for groups in (0, 5, 50):
        seconds = statistics.median(timed(crowded, number, groups) for number in range(rounds))
        work = f"permission snapshot, {CLASSES} classes, {GRANTS} grants, {groups} token groups"
        found.append(Result("P9", work, 1e3 * seconds, LIMIT_MS, "ms", 1, False))
    return [*found, decision()]


def decision() -> Result:
    """Whether a resource of three classes may be read, from a snapshot of a thousand."""
    names = [f"c{number}" for number in range(CLASSES)]
    half = frozenset(names[::2])
    caller = Caller(Permissions(half, half, half, half, frozenset(names[::7]), False, False, ""))
    resources = [frozenset(names[number : number + 3]) for number in range(CLASSES - 3)]
    start = perf_counter()
    for classes in resources:
        caller.may(Action.READ, classes)
    each_us = 1e6 * (perf_counter() - start) / len(resources)
    return Result("P9", "decision on a snapshot", each_us, LIMIT_US, "us", 1, False)


if __name__ == "__main__":
    show(snapshots())
