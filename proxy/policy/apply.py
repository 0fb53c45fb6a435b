"""Bring an OpenFGA server to what the policy folder says; done twice, the second time changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from proxy.errors import Unavailable
from proxy.policy.embedded.errors import InvalidModel
from proxy.policy.embedded.model import Model
from proxy.policy.embedded.model_json import from_json, to_json
from proxy.policy.embedded.tuples import Tuple
from proxy.policy.openfga import is_id
from proxy.policy.openfga_api import GARBAGE, PAGE, Api, Pin, key_of, stored


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done. `store` and `model` are ids, None where they are to be made."""

    store: str | None
    model: str | None
    pinned: Pin | None
    added: tuple[Tuple, ...]
    removed: tuple[Tuple, ...]
    replaced: tuple[Tuple, ...]
    """Those whose condition changes, as they will be."""

    @property
    def empty(self) -> bool:
        """Whether the server is as the folder says, and the pin too."""
        pin = None if self.store is None or self.model is None else Pin(self.store, self.model)
        return pin is not None and pin == self.pinned and not (self.added or self.removed or self.replaced)

    def lines(self) -> Iterator[str]:
        """The plan as a diff."""
        if self.store is None:
            yield "+ store"
        if self.model is None:
            yield "+ model"
        elif self.pinned is None or self.pinned.model != self.model:
            yield f"~ pin {self.model}"
        for sign, tuples in (("-", self.removed), ("~", self.replaced), ("+", self.added)):
            for each in sorted(tuples, key=lambda t: t.key):
                yield f"{sign} {each}"


async def plan(api: Api, store: str, pinned: Pin | None, model: Model, tuples: Iterable[Tuple]) -> Plan:
    """How the store (by id or name) differs. Raises `errors.Unavailable`, `Refused`."""
    wanted = {each.key: each for each in tuples}
    store_id = store if is_id(store) else await find_store(api, store)
    if store_id is None:
        return Plan(None, None, pinned, tuple(wanted.values()), (), ())
    there = {each.key: each for each in await stored(api, store_id)}
    return Plan(
        store_id,
        await _find_model(api, store_id, model, pinned),
        pinned,
        added=tuple(each for key, each in wanted.items() if key not in there),
        removed=tuple(each for key, each in there.items() if key not in wanted),
        replaced=tuple(each for key, each in wanted.items() if key in there and there[key] != each),
    )


async def carry_out(api: Api, name: str, plan: Plan, model: Model) -> Pin:
    """Do it: store, model, tuples. Returns the pin that may be put in force now, everything being there.

    Denials are written before all else and taken away last, so that no moment of it allows more than both
    states do; a tuple whose condition changes is gone for the time of one call. Interrupted, it can be
    done again. Raises `errors.Unavailable`, `Refused`.
    """
    store = plan.store
    if store is None:
        store = _id(await api.write("CreateStore", "/stores", {"name": name}), "id")
    model_id = plan.model
    if model_id is None:
        path = f"/stores/{store}/authorization-models"
        answer = await api.write("WriteAuthorizationModel", path, to_json(model))
        model_id = _id(answer, "authorization_model_id")
    pin = Pin(store, model_id)
    steps = (
        ("writes", [each for each in plan.added if _denies(each)]),
        ("deletes", [each for each in plan.removed if not _denies(each)]),
    )
    for kind, tuples in steps:
        await _write(api, pin, kind, tuples)
    for each in plan.replaced:
        await _write(api, pin, "deletes", [each])
        await _write(api, pin, "writes", [each])
    await _write(api, pin, "writes", [each for each in plan.added if not _denies(each)])
    await _write(api, pin, "deletes", [each for each in plan.removed if _denies(each)])
    return pin


async def find_store(api: Api, name: str) -> str | None:
    """The id of the one store of that name, None without one. Raises ValueError when there are several."""
    token, found = "", []
    while True:
        query: dict[str, str | int] = {"page_size": PAGE, "name": name}
        answer = await api.get(
            "ListStores", "/stores", query | ({"continuation_token": token} if token else {})
        )
        stores = answer.get("stores")
        if not isinstance(stores, list):
            raise Unavailable(GARBAGE)
        found += [_id(each, "id") for each in stores if isinstance(each, dict) and each.get("name") == name]
        token = str(answer.get("continuation_token") or "")
        if not token:
            break
    if len(found) > 1:
        raise ValueError(f"the server has {len(found)} stores named {name!r}; give one by its id: {found}")
    return found[0] if found else None


async def _find_model(api: Api, store: str, model: Model, pinned: Pin | None) -> str | None:
    """The id of the same model on the server: the pinned one, else the newest that is it."""
    answer = await api.get(
        "ReadAuthorizationModels", f"/stores/{store}/authorization-models", {"page_size": 50}
    )
    models = answer.get("authorization_models")
    if not isinstance(models, list):
        raise Unavailable(GARBAGE)
    same = [_id(each, "id") for each in models if _is(each, model)]
    if pinned is not None and pinned.model in same:
        return pinned.model
    return same[0] if same else None


def _is(document: Any, model: Model) -> bool:
    try:
        return from_json(document) == from_json(to_json(model))
    except InvalidModel:
        return False


async def _write(api: Api, pin: Pin, kind: str, tuples: list[Tuple]) -> None:
    for start in range(0, len(tuples), PAGE):
        keys = [key_of(each) for each in tuples[start : start + PAGE]]
        if kind == "deletes":
            keys = [{name: key[name] for name in ("user", "relation", "object")} for key in keys]
        body = {kind: {"tuple_keys": keys}, "authorization_model_id": pin.model}
        await api.write("Write", f"/stores/{pin.store}/write", body)


def _denies(each: Tuple) -> bool:
    return each.relation == "denied"


def _id(answer: Any, name: str) -> str:
    found = answer.get(name) if isinstance(answer, dict) else None
    if not is_id(found):
        raise Unavailable(GARBAGE)
    return str(found)
