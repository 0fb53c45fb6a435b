"""The store for Python programs of whoever runs it: tables, signed URLs, figures, without authorization.

async with open_library(parse(StoreSettings)) as library:
    await library.list_tables()
    await library.presigned_urls(flow_id, "[0:0_10:0)")
    await library.analytics("flow-usage")
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from store.app import run_store
from store.core import Store
from store.errors import BadRequest, NotFound
from store.http import Request
from store.metadata.opening import vast_config
from store.own_key import NAME
from store.params import Params
from store.routes.table import OPERATIONS
from store.settings import StoreSettings

FIGURES = ("flow-usage", "storage-usage", "time-range-analysis", "catalogue-summary")
SCHEMA = "main"
"""What SQLite calls the only schema that a file has."""

PAGE = "1000"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the metadata. `size_bytes` is None where the database does not say."""

    schema: str
    name: str
    rows: int
    size_bytes: int | None


class Library:
    """A store that is open, for reading."""

    def __init__(self, settings: StoreSettings, store: Store) -> None:
        self._settings = settings
        self._store = store

    async def list_schemas(self) -> list[str]:
        """The schemas of the database."""
        return await schemas_of(self._settings)

    async def list_tables(self) -> list[str]:
        """The tables that the metadata are in."""
        return [table.name for table in await tables_of(self._settings)]

    async def get_table_stats(self, name: str) -> Table:
        """How large a table is. Raises `NotFound`."""
        for table in await tables_of(self._settings):
            if table.name == name:
                return table
        raise NotFound("No such table.")

    async def presigned_urls(
        self, flow_id: str, timerange: str = "_", object_id: str | None = None
    ) -> list[dict[str, Any]]:
        """Signed URLs of a flow's media, by segment in order: `object_id`, `timerange`, `urls`.

        Of a timerange, or of one object, where that is said. Raises `NotFound`, `BadRequest`.
        """
        query = {"timerange": timerange, "presigned": "true", "limit": PAGE}
        if object_id is not None:
            query["object_id"] = object_id
        await self._asked("GET_flows-flowId", {"flowId": flow_id}, {})
        found: list[dict[str, Any]] = []
        while True:
            listed, following = await self._asked("GET_flows-flowId-segments", {"flowId": flow_id}, query)
            found += [
                {
                    "object_id": each["object_id"],
                    "timerange": each["timerange"],
                    "urls": [url["url"] for url in each["get_urls"]],
                }
                for each in listed
            ]
            if following is None:
                return found
            query = {**query, "page": following}

    async def analytics(self, name: str) -> dict[str, Any]:
        """Figures by name, one of `FIGURES`. Raises `BadRequest`."""
        if name not in FIGURES:
            raise BadRequest(f"There are these figures: {', '.join(FIGURES)}.")
        found, _ = await self._asked(f"GET_analytics-{name}", {}, {})
        return dict(found)

    async def _asked(
        self, operation: str, params: Mapping[str, str], query: Mapping[str, str]
    ) -> tuple[Any, str | None]:
        """The JSON of an operation, and the token of the next page."""
        request = Request(operation, "/", params, Params(list(query.items())))
        response = await OPERATIONS[operation](self._store, request)
        return orjson.loads(response.body), dict(response.headers).get("x-paging-nextkey")


@asynccontextmanager
async def open_library(
    settings: StoreSettings, *, media_keys: tuple[bytes, ...] = ()
) -> AsyncIterator[Library]:
    """Open the store of these settings, beside a server that runs on it or without one.

    `media_keys` sign URLs of local media, and are the server's; those of a store that runs alone are found
    in its data folder. Raises as `run_store`.
    """
    keys = media_keys or (await _own_key(settings.data / NAME),)
    async with run_store(settings, media_keys=keys, cursor_keys=keys, webhook_keys=keys, jobs=()) as running:
        yield Library(settings, running.store)


async def _own_key(path: Path) -> bytes:
    if not path.is_file():
        raise NotFound("There is no key to sign with: say `media_keys`.")
    return path.read_bytes()


async def schemas_of(settings: StoreSettings) -> list[str]:
    """The schemas of the database that settings choose. Raises `errors.Unavailable`."""
    if settings.metadata == "sqlite":
        return [SCHEMA]
    from store.doctor import inventory

    return sorted(await inventory(vast_config(settings), time.time_ns))


async def tables_of(settings: StoreSettings) -> list[Table]:
    """The tables of the metadata, by name. Raises `errors.Unavailable`."""
    if settings.metadata == "sqlite":
        return _sqlite_tables(settings.data / "metadata.sqlite")
    from store.doctor import inventory

    config = vast_config(settings)
    found = await inventory(config, time.time_ns)
    return sorted(
        (
            Table(config.schema, each.name, each.rows, each.size_bytes)
            for each in found.get(config.schema, ())
        ),
        key=lambda table: table.name,
    )


def _sqlite_tables(path: Path) -> list[Table]:
    if not path.is_file():
        raise NotFound("There are no metadata yet.")
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        named = (
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        )
        names = [name for (name,) in connection.execute(named)]
        # The names are those of the database's own catalogue.
        return [
            Table(SCHEMA, name, connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0], None)
            for name in names
        ]
