"""A folder of media, its signer, and the application that serves it, on a clock that tests set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from store.media.files import Files
from store.media.protocol import Backend
from store.media.serve import LocalMedia
from store.media.signing import Lifetime, Signer

NOW_S = 1_800_000_000
BACKEND_ID = "6ad8b2b2-0bd3-4a8f-8f3e-8e4f6a9d7c11"
PUBLIC_URL = "https://media.example"


@dataclass
class Clock:
    now_s: int = NOW_S

    def __call__(self) -> float:
        return float(self.now_s)


@dataclass
class Place:
    files: Files
    app: LocalMedia
    client: httpx.AsyncClient
    signer: Signer
    clock: Clock
    folder: Path


def local_files(folder: Path, signer: Signer, *, quota_bytes: int | None = None) -> Files:
    backend = Backend(BACKEND_ID, "local", "local", "files", default=True)
    return Files(
        backend,
        folder,
        public_url=PUBLIC_URL,
        signer=signer,
        lifetime=Lifetime(),
        quota_bytes=quota_bytes,
    )


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    signer = Signer((b"n" * 32, b"o" * 32))
    clock = Clock()
    folder = tmp_path / "media"
    files = local_files(folder, signer)
    app = LocalMedia({BACKEND_ID: files}, signer, clock, most_bytes=32 << 20)
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
        yield Place(files, app, client, signer, clock, folder)
    await files.close()
