"""The proxy before a store that is reached over HTTP, for proofs that were written for the one inside."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from proxy.rules import EXTENSIONS, RULES
from store.app import with_lifespan
from store.settings import StoreSettings, parse
from tests.authorization.world import World
from tests.proxy import support
from tests.upstream.serving import serving

METHODS = {
    rule.operation: f"{method} {template}"
    for template, methods in RULES.items()
    for method, rule in methods.items()
}
"""Operations as a refusal names them."""
ROOT = Path(__file__).parents[1]


def store_settings(folder: Path, url: str, **settings: Any) -> StoreSettings:
    """Settings of a store with the backends that `support` gives the one inside."""
    given = support.environment(folder, **{**settings, "public_url": url})
    ours = {f"TAMS_{name.upper()}" for name in (*StoreSettings.model_fields, "config")}
    return parse(StoreSettings, {name: value for name, value in given.items() if name in ours})


@asynccontextmanager
async def running(
    folder: Path, clients: Mapping[str, support.Client] = support.CLIENTS, **settings: Any
) -> AsyncIterator[support.Proxy]:
    """As `support.running`, the store in a server of its own."""
    behind = folder / "store"
    behind.mkdir(parents=True, exist_ok=True)
    with serving(lambda url: with_lifespan(store_settings(behind, url, **settings), secret=b"s" * 32)) as url:
        async with support.running(folder, clients, upstream=url, **settings) as proxy:
            yield proxy


OVER_HTTP = World(
    running,
    lacks={name: f"The upstream lacks {METHODS[name]}." for name in EXTENSIONS},
    unsigned_media=False,
    metadata="data/relay/metadata.sqlite",
)
"""What our store has beyond the specification is not asked of a store elsewhere."""


def copied(name: str, world: World = OVER_HTTP) -> ModuleType:
    """A test module of its own making, whose proxies stand before another store."""
    path = ROOT / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"world_{id(world)}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.__dict__["WORLD"] = world
    return module
