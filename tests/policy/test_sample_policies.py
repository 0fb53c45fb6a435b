"""The policy files that are shipped are valid, and their own tests pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from proxy.policy.embedded import Engine, parse_model
from proxy.policy.embedded.store_file import read_store, read_tuples, run_cases

FOLDER = Path(__file__).resolve().parents[2] / "policies"


def yaml(name: str) -> Any:
    return YAML(typ="safe").load(FOLDER / name)


def test_the_shipped_policy_passes_its_own_tests() -> None:
    store = read_store(yaml("store.fga.yaml"), yaml)
    assert store.model_file == "./model.fga"
    assert store.tuples == read_tuples(yaml("tuples.yaml"))
    model = parse_model((FOLDER / "model.fga").read_text(encoding="utf-8"))
    failures = run_cases(model, store.tuples, store.cases)
    assert failures == []
    assert sum(len(case.assertions) for case in store.cases) > 20


def test_every_class_of_the_tuples_is_described_and_every_client_is_known() -> None:
    tuples = read_tuples(yaml("tuples.yaml"))
    classes = yaml("classes.yaml")["classes"]
    clients = yaml("clients.yaml")["clients"]
    assert {each.object.partition(":")[2] for each in tuples if each.object.startswith("auth_class:")} == set(
        classes
    )
    groups = {each.object.partition(":")[2] for each in tuples if each.object.startswith("group:")}
    for described in classes.values():
        assert set(described["default_for"]["clients"]) <= set(clients)
        assert set(described["default_for"]["groups"]) <= groups
    assert {group for client in clients.values() for group in client["groups"]} <= groups


def test_the_tuples_and_the_tokens_of_a_client_put_it_in_the_same_groups() -> None:
    model = parse_model((FOLDER / "model.fga").read_text(encoding="utf-8"))
    engine = Engine(model, read_tuples(yaml("tuples.yaml")))
    for name, client in yaml("clients.yaml")["clients"].items():
        for group in client["groups"]:
            assert engine.check(f"user:local/{name}", "member", f"group:{group}")
