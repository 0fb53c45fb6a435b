"""What every policy engine promises (`Decisions`), on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.identity.principal import ADMIN, READ, Principal
from proxy.policy.apply import carry_out, plan
from proxy.policy.embedded.tuples import Tuple
from proxy.policy.files import load, read_placed
from proxy.policy.folder import FolderPolicy
from proxy.policy.local import LocalDecisions
from proxy.policy.openfga import ServerDecisions
from proxy.policy.openfga_api import Api, Pin, key_of
from proxy.policy.protocol import Decisions
from proxy.upstream.credentials import Fixed, Proof
from tests.policy.openfga_server import running

SAMPLE = Path(__file__).resolve().parents[2] / "policies"
TUPLES = (SAMPLE / "tuples.yaml").read_text()
PARTNER_UNTIL_S = 1_814_400_000  # 2027-07-01T00:00:00Z
NOW_S = 1_795_251_300.0


class Clock:
    """Unix seconds that stand still until moved."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


class Engine:
    """An engine under test, and the way to change its policy."""

    def __init__(self, decisions: Decisions, change: Callable[[str], Awaitable[None]], clock: Clock) -> None:
        self.decisions = decisions
        self.change = change
        self.clock = clock


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.fixture(params=["embedded", pytest.param("server", marks=pytest.mark.slow)])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    clock = Clock()
    for name in ("model.fga", "tuples.yaml", "classes.yaml"):
        (tmp_path / name).write_text((SAMPLE / name).read_text())
    if request.param == "embedded":
        folder = FolderPolicy(tmp_path, clock)

        async def rewrite(text: str) -> None:
            (tmp_path / "tuples.yaml").write_text(text)
            clock.now_s += 1.5

        yield Engine(LocalDecisions(folder, clock), rewrite, clock)
        return
    policy = load(tmp_path)
    api = Api(request.getfixturevalue("server"), Fixed(Proof()), timeout_s=10)
    store = await api.write("CreateStore", "/stores", {"name": "contract"})
    pins: list[Pin] = []

    async def apply(text: str) -> None:
        tuples = [each for _, each in read_placed(text)]
        found = await plan(api, store["id"], pins[-1] if pins else None, policy.engine.model, tuples)
        pins.append(await carry_out(api, "contract", found, policy.engine.model))
        clock.now_s += 7.5

    await apply(TUPLES)
    decisions = ServerDecisions(api, lambda: pins[0], clock, timeout_s=10, clock=clock)
    yield Engine(decisions, apply, clock)
    await api.close()


def caller(issuer: str, subject: str, *groups: str, **more: Any) -> Principal:
    values: dict[str, Any] = {"scopes": frozenset((READ,)), "scope_admin": False, "expires_s": 2**40, **more}
    return Principal(issuer, subject, subject, frozenset(groups), **values)


NEWSROOM = caller("local", "newsroom", "news")
EVERYTHING = [
    (NEWSROOM, {"news"}, {"news"}, {"news"}, {"sport_ro", "embargo"}, set(), True),
    (caller("local", "sportdesk"), {"sport", "sport_ro"}, {"sport"}, {"sport"}, set(), {"embargo"}, True),
    (caller("other", "x", "sport"), {"sport", "sport_ro"}, {"sport"}, {"sport"}, set(), {"embargo"}, True),
    (caller("partners", "agency"), {"news"}, set(), set(), set(), {"embargo"}, False),
    (caller("local", "stranger"), set(), set(), set(), set(), set(), False),
    (caller("local", "a b:c#d@e*", "chess"), set(), set(), set(), set(), set(), False),
]


@pytest.mark.parametrize(("who", "read", "write", "delete", "grant", "denied", "creator"), EVERYTHING)
async def test_permissions_are_what_the_policy_says(
    engine: Engine,
    who: Principal,
    read: set[str],
    write: set[str],
    delete: set[str],
    grant: set[str],
    denied: set[str],
    creator: bool,
) -> None:
    found = await engine.decisions.permissions(who)
    assert (found.read, found.write, found.delete, found.grant) == (read, write, delete, grant)
    assert (found.denied, found.admin, found.creator) == (denied, False, creator)
    assert found.policy


@pytest.mark.parametrize(
    ("who", "admin"),
    [
        (caller("local", "admin"), True),
        (caller("local", "root", scopes=frozenset((ADMIN,)), scope_admin=True), True),
        (caller("local", "root", scopes=frozenset((ADMIN,))), False),
        (caller("other", "admin"), False),
    ],
)
async def test_administrators_are_those_of_the_policy_and_of_trusted_scopes(
    engine: Engine, who: Principal, admin: bool
) -> None:
    assert (await engine.decisions.permissions(who)).admin is admin


async def test_a_condition_ends_on_time_though_an_answer_is_kept(engine: Engine) -> None:
    partner = caller("partners", "agency")
    engine.clock.now_s = PARTNER_UNTIL_S - 0.5
    assert (await engine.decisions.permissions(partner)).read == {"news"}
    engine.clock.now_s = float(PARTNER_UNTIL_S)
    assert (await engine.decisions.permissions(partner)).read == set()


async def test_an_answer_is_the_same_object_while_nothing_changes(engine: Engine) -> None:
    first = await engine.decisions.permissions(NEWSROOM)
    assert await engine.decisions.permissions(NEWSROOM) is first
    engine.clock.now_s += 8
    assert await engine.decisions.permissions(NEWSROOM) is first


async def test_what_is_revoked_ends(engine: Engine) -> None:
    assert (await engine.decisions.permissions(NEWSROOM)).delete == {"news"}
    entry = "- user: group:news#member\n  relation: deleter\n  object: auth_class:news\n"
    assert entry in TUPLES
    await engine.change(TUPLES.replace(entry, ""))
    assert (await engine.decisions.permissions(NEWSROOM)).delete == set()
    assert (await engine.decisions.permissions(NEWSROOM)).read == {"news"}


async def test_a_group_that_is_denied_from_now_on_is_denied(engine: Engine) -> None:
    who = caller("local", "newsroom", "news", "interns")
    assert (await engine.decisions.permissions(who)).denied == set()
    denial = "- user: group:interns#member\n  relation: denied\n  object: auth_class:news\n"
    await engine.change(f"{TUPLES}\n{denial}")
    assert (await engine.decisions.permissions(who, fresh=True)).denied == {"news"}
    assert "news" in await engine.decisions.denying()


async def test_the_classes_that_deny_are_told(engine: Engine) -> None:
    assert await engine.decisions.denying() == {"embargo"}


async def test_an_answer_ends_with_its_token(engine: Engine) -> None:
    who = caller("partners", "agency", expires_s=int(NOW_S) + 3)
    first = await engine.decisions.permissions(who)
    engine.clock.now_s += 4
    assert await engine.decisions.permissions(who) == first


async def test_many_at_once_get_their_own_answers(engine: Engine) -> None:
    who = [caller("local", name) for name in ("newsroom", "sportdesk", "stranger")] * 10
    found = await asyncio.gather(*(engine.decisions.permissions(each) for each in who))
    for each, permissions in zip(who, found, strict=True):
        wanted = {"newsroom": {"news"}, "sportdesk": {"sport", "sport_ro"}}.get(each.subject, set())
        assert permissions.read == wanted


@pytest.mark.slow
async def test_applying_twice_changes_nothing_the_second_time(server: str) -> None:
    policy = load(SAMPLE)
    model, tuples = policy.engine.model, policy.tuples
    api = Api(server, Fixed(Proof()), timeout_s=10)
    first = await plan(api, "twice", None, model, tuples)
    assert first.store is None and len(first.added) == len(tuples)
    pin = await carry_out(api, "twice", first, model)
    assert (await plan(api, "twice", pin, model, tuples)).empty
    other = Tuple("group:news#member", "denied", "auth_class:sport")
    changed = await plan(api, "twice", pin, model, [*tuples[1:], other])
    assert (changed.added, changed.removed, changed.model) == ((other,), tuples[:1], pin.model)
    assert any("denied" in line for line in changed.lines())
    assert await carry_out(api, "twice", changed, model) == pin
    assert (await plan(api, "twice", pin, model, [*tuples[1:], other])).empty
    await api.close()


@pytest.mark.slow
async def test_many_tuples_are_written_in_batches_and_followed_through_pages(server: str) -> None:
    policy = load(SAMPLE)
    many = [Tuple(f"group:g{n}#member", "reader", f"auth_class:c{n}") for n in range(450)]
    api = Api(server, Fixed(Proof()), timeout_s=10)
    pin = await carry_out(
        api, "many", await plan(api, "many", None, policy.engine.model, many), policy.engine.model
    )
    decisions = ServerDecisions(api, lambda: pin, Clock(), timeout_s=10)
    held = await decisions.permissions(caller("local", "x", "g0", "g449", "unknown"))
    assert held.read == {"c0", "c449"}
    assert (await plan(api, "many", pin, policy.engine.model, many)).empty
    assert key_of(many[0])["user"] == "group:g0#member"
    await api.close()
