"""`tams-proxy policy who-can`, `what-can` and `explain`: questions to the files, answered inside."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer

from proxy.commands.places import Data, Policies, Url, data_of, policies_of, url_of
from proxy.commands.policy_edit import principal as named
from proxy.commands.policy_show import At, Groups, Json, refusals, tell_json, tell_table
from proxy.commands.token import clear_secret, fetch
from proxy.identity.clients import parse_clients
from proxy.policy.embedded.explain import Explanation
from proxy.policy.embedded.tuples import Tuple
from proxy.policy.files import CLIENTS, LOCAL, Policy, check_class, load, time_context
from proxy.policy.local import memberships
from proxy.policy.slips import SERVICE

ACTIONS = {"read": "can_read", "write": "can_write", "delete": "can_delete", "grant": "can_grant"}
KINDS = ("flows", "sources")
Action = Annotated[str, typer.Argument(help="read, write, delete or grant.")]
TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks, with the groups of the token, and when."""

    policy: Policy
    user: str
    contextual: list[Tuple]
    context: dict[str, object]

    def holds(self, relation: str, object_: str) -> bool:
        """A check. Raises `PolicyError`."""
        return self.policy.engine.check(
            self.user, relation, object_, contextual=self.contextual, context=self.context
        )

    def classes(self, relation: str) -> frozenset[str]:
        """All classes of a relation. Raises `PolicyError`."""
        found = self.policy.engine.list_objects(
            self.user, relation, "auth_class", contextual=self.contextual, context=self.context
        )
        return frozenset(each.partition(":")[2] for each in found)

    def explain(self, relation: str, object_: str) -> Explanation:
        """Why."""
        return self.policy.engine.explain(
            self.user, relation, object_, contextual=self.contextual, context=self.context
        )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("who-can")(who_can)
    app.command("what-can")(what_can)
    app.command("explain")(explain)


def who_can(
    action: Action,
    name: Annotated[str, typer.Argument(metavar="CLASS")],
    policies: Policies = None,
    at: At = None,
    json: Json = False,
) -> None:
    """List the users and groups that may do it with a class; those it denies are left out."""
    with refusals():
        policy = load(policies_of(policies))
        relation, context = _relation(action), time_context(_moment(at))
        filters = ["user", "group#member"]
        engine, object_ = policy.engine, f"auth_class:{check_class(name)}"
        able = engine.list_users(object_, relation, filters, context=context)
        denied = engine.list_users(object_, "is_denied", filters, context=context)
        admins = engine.list_users(SERVICE, "can_administer", filters, context=context)
    # Somebody may be denied as one of a denied group, or as one of everybody.
    shut = denied | {each for each in able if _denied(policy, each, object_, context)}
    found = {**dict.fromkeys(sorted(able - shut), action), **dict.fromkeys(sorted(admins), "administrator")}
    if json:
        tell_json([{"who": who, "as": why} for who, why in found.items()])
    else:
        tell_table(("who", "as"), list(found.items()))


def what_can(
    who: Annotated[str, typer.Argument(metavar="PRINCIPAL")],
    group: Groups = None,
    policies: Policies = None,
    at: At = None,
    json: Json = False,
) -> None:
    """List what a principal may do with which class: newsroom, partners/agency, group:news."""
    with refusals():
        asked = _question(policies, who, group, at)
        held = {action: asked.classes(relation) for action, relation in ACTIONS.items()}
        denied = asked.classes("is_denied")
        service = {
            "administer": asked.holds("can_administer", SERVICE),
            "create": asked.holds("can_create", SERVICE),
        }
    names = sorted(denied.union(*held.values()))
    if json:
        classes = {name: [a for a in ACTIONS if name in held[a]] for name in names}
        tell_json({"principal": asked.user, "classes": classes, "denied": sorted(denied), **service})
        return
    yes = {True: "yes", False: "-"}
    rows = [(n, *(yes[n in held[a]] for a in ACTIONS), "denied" if n in denied else "-") for n in names]
    tell_table(("class", *ACTIONS, "denied"), rows)
    for what, may in service.items():
        typer.echo(f"may {what}{' the service' if what == 'administer' else ''}: {'yes' if may else 'no'}")


def explain(
    who: Annotated[str, typer.Argument(metavar="PRINCIPAL")],
    action: Action,
    what: Annotated[str, typer.Argument(help="A class, or flows/<id> or sources/<id>.")],
    classes: Annotated[
        str | None, typer.Option(help="The resource's classes, instead of asking the proxy.")
    ] = None,
    group: Groups = None,
    policies: Policies = None,
    at: At = None,
    url: Url = None,
    client: Annotated[str, typer.Option(help="The administrator to look it up as.")] = "admin",
    data: Data = None,
    json: Json = False,
) -> None:
    """Say why a principal gets its answer: the chain of tuples, or what is missing. Exits with 1 for a no."""
    with refusals():
        asked, relation = _question(policies, who, group, at), _relation(action)
        if classes is not None:
            names = [check_class(each) for each in classes.split(",") if each]
        elif what.partition("/")[0] in KINDS and "/" in what:
            place, known = url_of(url), clear_secret(data_of(data), client)
            names = look_up(place, fetch(place, client, known, [])["access_token"], what)
        else:
            names = [check_class(what)]
        admin = asked.explain("can_administer", SERVICE)
        found = {name: asked.explain(relation, f"auth_class:{name}") for name in names}
        shut = {name: asked.explain("is_denied", f"auth_class:{name}") for name in names}
    allowed, told = verdict(admin, found, shut)
    if json:
        tell_json(
            {
                "principal": asked.user,
                "action": action,
                "classes": names,
                "allowed": allowed,
                "because": [_plain(each) for each in told],
            }
        )
    else:
        typer.echo(
            f"{'yes' if allowed else 'no'}: {asked.user} may {'' if allowed else 'not '}{action} {what}"
        )
        if not names:
            typer.echo("  it has no classes: it is for administrators, or of the default class")
        for each in told:
            typer.echo("\n".join(each.reason.lines(1)))
    if not allowed:
        raise typer.Exit(1)


def verdict(
    admin: Explanation, found: dict[str, Explanation], shut: dict[str, Explanation]
) -> tuple[bool, list[Explanation]]:
    """Whether it is allowed, and the explanations that decide. A denial, or one that cannot be known, beats
    every grant; an administrator passes both."""
    if admin.allowed:
        return True, [admin]
    denials = [each for each in shut.values() if each.allowed is not False]
    if denials:
        return False, denials
    grants = [each for each in found.values() if each.allowed]
    return bool(grants), grants[:1] or list(found.values())


def look_up(url: str, token: str, what: str) -> list[str]:
    """The classes of a resource of the running proxy. ValueError when it cannot be read."""
    kind, _, identifier = what.partition("/")
    path = f"{url.rstrip('/')}/{kind}/{quote(identifier, safe='')}"
    try:
        answer = httpx.get(path, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_S)
        body: Any = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
        raise ValueError(f"{url} cannot be asked for {what}: {exc}") from exc
    if answer.status_code != 200:
        raise ValueError(f"{url} answers {answer.status_code} for {what}")
    said = body.get("tags", {}).get("auth_classes", []) if isinstance(body, dict) else []
    return [said] if isinstance(said, str) else [str(each) for each in said]


def _question(policies: Path | None, who: str, groups: Iterable[str] | None, at: str | None) -> Question:
    folder = policies_of(policies)
    policy = load(folder)
    user = named(who)
    held = set(groups or ()) | _groups_of(folder, user)
    carried = tuple(sorted(held & policy.groups)) if user.startswith("user:") else ()
    return Question(policy, user, memberships(user, carried), time_context(_moment(at)))


def _groups_of(policies: Path, user: str) -> frozenset[str]:
    """The groups that a built-in client's tokens carry."""
    path = policies / CLIENTS
    prefix = f"user:{LOCAL}/"
    if not user.startswith(prefix) or not path.exists():
        return frozenset()
    client = parse_clients(path.read_bytes()).get(user.removeprefix(prefix))
    return client.groups if client is not None else frozenset()


def _denied(policy: Policy, user: str, object_: str, context: dict[str, object]) -> bool:
    return policy.engine.check(user, "is_denied", object_, context=context)


def _relation(action: str) -> str:
    if action not in ACTIONS:
        raise ValueError(f"{action!r} is no action; there are {', '.join(ACTIONS)}")
    return ACTIONS[action]


def _moment(at: str | None) -> float:
    if at is None:
        return time.time()
    moment = datetime.fromisoformat(at)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _plain(each: Explanation) -> dict[str, Any]:
    return {"holds": each.allowed, "chain": [str(t) for t in each.chain], "lines": list(each.reason.lines())}
