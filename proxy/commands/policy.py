"""`tams-proxy policy`: check it, try it, edit it, ask it, bring it to a server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import httpx
import typer

from proxy.commands import policy_ask
from proxy.commands.places import Data, Policies, editing, policies_of
from proxy.commands.policy_edit import granted, principal, revoked, tuple_for
from proxy.commands.policy_show import Json, refusals, tell_json, tell_table
from proxy.identity.files import locked, write_shared
from proxy.policy.embedded.store_file import StoreFile, read_store, run_cases
from proxy.policy.files import FILES, TUPLES, InvalidPolicy, Policy, load, parse, read_model
from proxy.policy.marked import NotYaml, read
from proxy.policy.open import open_api
from proxy.policy.slips import ended

if TYPE_CHECKING:
    from proxy.policy.apply import Plan
    from proxy.policy.openfga_api import Pin

app = typer.Typer(help="Who may do what: check, try, edit and ask the policy.", no_args_is_help=True)
policy_ask.register(app)

STORE_FILE = "store.fga.yaml"
WRITE_S = 30.0


@app.command()
def validate(
    policies: Policies = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    json: Json = False,
) -> None:
    """Check all files together; what is wrong is told with file and line."""
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    version = None
    with refusals():
        folder = policies_of(policies)
    try:
        policy = load(folder)
        version, warnings = policy.version, policy.warnings
        notes = tuple(ended(policy, time.time()))
    except InvalidPolicy as exc:
        problems = exc.problems
    valid = not problems and not (strict and warnings)
    if json:
        told = {"problems": problems, "warnings": warnings, "notes": notes}
        tell_json({"valid": valid, "version": version, **told})
    else:
        for kind, lines in (("error", problems), ("warning", warnings), ("note", notes)):
            for line in lines:
                typer.echo(f"{kind}: {line}", err=True)
        typer.echo(f"policy {version} is valid" if valid else "the policy is not valid")
    if not valid:
        raise typer.Exit(1)


@app.command()
def test(
    policies: Policies = None,
    file: Annotated[str, typer.Option(help="The store file, in the policy folder.")] = STORE_FILE,
    json: Json = False,
) -> None:
    """Run the tests of store.fga.yaml; they also run under OpenFGA's own `fga model test`."""
    with refusals():
        folder = policies_of(policies)
        store = read_tests(folder, file)
        text = store.model or (folder / (store.model_file or "")).read_text(encoding="utf-8")
        failures = run_cases(read_model(text), store.tuples, store.cases)
    failed = {failure.case for failure in failures}
    if json:
        tell_json({"cases": len(store.cases), "failures": [str(failure) for failure in failures]})
    else:
        rows = [
            (each.name, str(len(each.assertions)), "no" if each.name in failed else "yes")
            for each in store.cases
        ]
        tell_table(("test", "assertions", "passes"), rows)
        for failure in failures:
            typer.echo(str(failure), err=True)
    if failures:
        raise typer.Exit(1)


@app.command()
def grant(
    user: str,
    relation: str,
    object_: Annotated[str, typer.Argument(metavar="CLASS")],
    until: Annotated[str | None, typer.Option(help="When it ends, RFC 3339 (2027-07-01T00:00:00Z).")] = None,
    policies: Policies = None,
) -> None:
    """Add a tuple to tuples.yaml: `grant group:news reader sport`, `grant newsroom member group:news`."""
    said: list[str] = []
    with refusals(), editing(policies) as folder, locked(folder / TUPLES):
        new = tuple_for(user, relation, object_, until)
        changed = granted(_texts(folder), new)
        if changed is not None:
            write_shared(folder / TUPLES, changed.encode())
            policy = parse({**_texts(folder), TUPLES: changed})
            said = [*policy.warnings, *ended(policy, time.time())]
    for line in (line for line in said if str(new) in line):
        typer.echo(f"warning: {line}", err=True)
    typer.echo(f"granted {new}" if changed is not None else f"{new} is there already")


@app.command()
def revoke(
    user: str,
    relation: str,
    object_: Annotated[str, typer.Argument(metavar="CLASS")],
    policies: Policies = None,
) -> None:
    """Take a tuple out of tuples.yaml, whatever its condition."""
    with refusals(), editing(policies) as folder, locked(folder / TUPLES):
        old = tuple_for(user, relation, object_)
        changed = revoked(_texts(folder), principal(user), relation, old.object)
        if changed is None:
            raise ValueError(f"{TUPLES} has no {old}")
        write_shared(folder / TUPLES, changed.encode())
    typer.echo(f"revoked {old}")


@app.command()
def apply(
    policies: Policies = None,
    data: Data = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change.")] = False,
    json: Json = False,
) -> None:
    """Bring the OpenFGA server of TAMS_OPENFGA__URL to what the files say, then switch to it."""
    with refusals():
        found, pin = asyncio.run(_apply(load(policies_of(policies)), data, dry_run=dry_run))
    _tell_plan(found, pin, json)


@app.command()
def diff(policies: Policies = None, data: Data = None, json: Json = False) -> None:
    """Show how the OpenFGA server differs from the files; exit status 1 when it does."""
    with refusals():
        found, _ = asyncio.run(_apply(load(policies_of(policies)), data, dry_run=True))
    _tell_plan(found, None, json)
    if not found.empty:
        raise typer.Exit(1)


async def _apply(policy: Policy, data: Path | None, *, dry_run: bool) -> tuple[Plan, Pin | None]:
    from proxy.app import load_settings
    from proxy.policy.apply import carry_out, plan
    from proxy.policy.openfga import PIN_NAME, dump_pin, parse_pin

    settings = load_settings()
    options = settings.openfga
    if options.url is None:
        raise ValueError("set TAMS_OPENFGA__URL to the server's URL")
    path = (data or settings.data) / PIN_NAME
    pinned = parse_pin(path.read_bytes()) if path.exists() else None
    model = policy.engine.model
    async with (
        httpx.AsyncClient(timeout=WRITE_S) as http,
        open_api(options, http, WRITE_S) as api,
    ):
        found = await plan(api, options.store, pinned, model, policy.tuples)
        if dry_run:
            return found, None
        pin = await carry_out(api, options.store, found, model)
    if pin != pinned:
        write_shared(path, dump_pin(pin))
    return found, pin


def _tell_plan(found: Plan, pin: Pin | None, json: bool) -> None:
    lines = list(found.lines())
    if json:
        done = None if pin is None else {"store": pin.store, "model": pin.model}
        tell_json({"changes": lines, "in_force": done})
        return
    for line in lines:
        typer.echo(line)
    if not lines:
        typer.echo("nothing to change")
    if pin is not None:
        typer.echo(f"in force: store {pin.store}, model {pin.model}")


def read_tests(policies: Path, name: str) -> StoreFile:
    """The store file of a folder. Raises `InvalidPolicy`, `PolicyError`, `OSError`."""

    def plain(file: str) -> object:
        try:
            return read((policies / file).read_text(encoding="utf-8")).plain()
        except NotYaml as exc:
            raise InvalidPolicy([f"{file}:{exc.line}: {exc}"]) from exc

    return read_store(plain(name), plain)


def _texts(policies: Path) -> dict[str, str]:
    return {name: (policies / name).read_text(encoding="utf-8") for name in FILES}
