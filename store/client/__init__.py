"""Clients: of the key-value object API `RestStore`, of live streams `LiveStreams`; for asyncio
`AsyncRestStore` and `AsyncLiveStreams`."""

from store.client.entries import Entry
from store.client.live import AsyncLiveStreams, LiveStreams
from store.client.protocol import StoreError
from store.client.rest import AsyncRestStore, RestStore

__all__ = ["AsyncLiveStreams", "AsyncRestStore", "Entry", "LiveStreams", "RestStore", "StoreError"]
