"""The store that stands beside a TAMS elsewhere: it keeps webhooks, and events on their way to them."""

from __future__ import annotations

from typing import TypeVar

from store.keeping import BackendSettings
from store.settings import DEFAULT_BACKEND_ID, StoreSettings

FOLDER = "relay"
S = TypeVar("S", bound=StoreSettings)


def relay_settings(settings: S) -> S:
    """Its settings: a database of its own in the data folder, and no media."""
    backend = BackendSettings(id=DEFAULT_BACKEND_ID, type="memory", default=True)
    return settings.model_copy(
        update={
            "data": settings.data / FOLDER,
            "metadata": "sqlite",
            "storage_backends": (backend,),
            "keys": settings.keys.model_copy(update={"backend": None}),
        }
    )
