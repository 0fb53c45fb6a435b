"""Opening the metadata that settings choose. What a choice needs is imported only when it is made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from store.metadata.protocol import Metadata
from store.settings import InvalidSettings, StoreSettings

if TYPE_CHECKING:
    from store.metadata.vast_api import VastConfig


async def open_metadata(settings: StoreSettings) -> Metadata:
    """The chosen database. Raises `errors.Unavailable`, and `InvalidSettings` for what cannot be used."""
    if settings.metadata == "sqlite":
        from store.metadata.sqlite import open_sqlite

        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        return await open_sqlite(settings.data / "metadata.sqlite")
    config = vast_config(settings)
    from store.metadata.vast import open_vast

    return await open_vast(config, now_ns=time.time_ns)


def vast_config(settings: StoreSettings) -> VastConfig:
    """How to reach the cluster that settings name, whether or not it is chosen. Raises `InvalidSettings`."""
    vast = settings.vast
    problems = vast.problems()
    if problems:
        raise InvalidSettings(problems)
    try:
        # 2.5 seconds.
        from store.metadata.vast_api import VastConfig

        access_key, secret_key = vast.keys()
    except ImportError as exc:
        raise InvalidSettings(
            ["metadata in VAST need the extra `vast`: pip install tams-proxy[vast]"]
        ) from exc
    except OSError as exc:
        raise InvalidSettings([f"TAMS_VAST__ACCESS_KEY_FILE or TAMS_VAST__SECRET_KEY_FILE: {exc}"]) from exc
    return VastConfig(
        endpoints=tuple(endpoint.rstrip("/") for endpoint in vast.endpoints),
        bucket=vast.bucket or "",
        schema=vast.db_schema,
        access_key=access_key,
        secret_key=secret_key,
        verify_tls=vast.verify_tls,
        ca_file=vast.ca_file,
        timeout_s=vast.timeout_s,
        deadline_s=vast.deadline_s,
        threads=vast.threads,
    )
