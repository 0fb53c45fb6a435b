"""How long a permission snapshot takes in the embedded evaluator: 1,000 classes, 10,000 grants.

Run: python -m tests.bench.policy_snapshot. Prints medians: figures of one machine, not a test.
"""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from time import perf_counter

from proxy.policy.embedded import Engine, Tuple, parse_model

CLASSES = 1_000
GRANTS = 10_000
GROUPS = 100
USERS = 500
RELATIONS = ("can_read", "can_write", "can_delete", "can_grant", "is_denied")
ROUNDS = 30


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


def timed(engine: Engine, user: str, groups: int) -> tuple[float, int]:
    """Seconds and classes found of one snapshot; the token brings so many groups."""
    member = [Tuple(user, "member", f"group:g{50 + number}") for number in range(groups)]
    start = perf_counter()
    found = [engine.list_objects(user, each, "auth_class", contextual=member) for each in RELATIONS]
    return perf_counter() - start, sum(map(len, found))


def main() -> None:
    """Print the figures."""
    text = (Path(__file__).resolve().parents[2] / "policies" / "model.fga").read_text(encoding="utf-8")
    start = perf_counter()
    model = parse_model(text)
    parsed = perf_counter()
    engine = Engine(model, world())
    print(f"load: model {1e3 * (parsed - start):.1f} ms, tuples {1e3 * (perf_counter() - parsed):.1f} ms")
    for groups in (0, 5, 50):
        rounds = [timed(engine, f"user:local/u{number}", groups) for number in range(ROUNDS)]
        seconds = statistics.median(each for each, _ in rounds)
        found = statistics.median(count for _, count in rounds)
        asked = CLASSES * len(RELATIONS)
        print(
            f"snapshot, {groups} token groups: {1e3 * seconds:.2f} ms, {found:.0f} permissions found, "
            f"{asked / (1e6 * seconds):.1f} decisions/us"
        )
    start = perf_counter()
    for number in range(CLASSES):
        engine.check("user:local/u1", "can_read", f"auth_class:c{number}")
    print(f"check: {1e6 * (perf_counter() - start) / CLASSES:.1f} us")


if __name__ == "__main__":
    main()
