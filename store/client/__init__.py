"""Clients of the key-value object API: `RestStore`, and `AsyncRestStore` for asyncio."""

from store.client.protocol import StoreError
from store.client.rest import AsyncRestStore, RestStore

__all__ = ["AsyncRestStore", "RestStore", "StoreError"]
