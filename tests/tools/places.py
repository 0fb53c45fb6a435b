"""Running servers for the tools: media on local files, or on an S3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from proxy.commands.token import clear_secret
from store.__main__ import app
from tests.contract import media_servers
from tests.end_to_end.server import Server

BACKEND = "5f0c5d4e-9f57-4b3a-8a53-6f1f6a1d2c77"


@dataclass(frozen=True)
class Place:
    """A running server, and the tools on it as one of its clients."""

    server: Server
    client: str = "newsroom"

    def run(self, *arguments: str) -> Result:
        """A command of `tams-store`, its standard output and error apart."""
        secret = clear_secret(self.server.data, self.client)
        variables = {
            "TAMSCLI_URL": self.server.url,
            "TAMSCLI_CLIENT": self.client,
            "TAMSCLI_SECRET": secret,
            "COLUMNS": "200",
        }
        return CliRunner().invoke(app, list(arguments), env=variables)

    def json(self, *arguments: str) -> Any:
        """What a command that must succeed prints as JSON."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Place]:
    """A proxy with its media on "files", or on the S3 server by that name; skips where that is absent."""
    if kind == "files":
        yield from _serving(folder, {})
        return
    buckets = folder / "buckets"
    buckets.mkdir()
    with media_servers.running(kind, buckets) as s3:
        backend = {
            "id": BACKEND,
            "type": "s3",
            "label": "s3",
            "default": True,
            "bucket": media_servers.BUCKET,
            "endpoints": [s3.endpoint],
            "region": "us-east-1",
            "access_key": media_servers.ACCESS,
            "secret_key": media_servers.SECRET,
        }
        yield from _serving(folder, {"TAMS_STORAGE_BACKENDS": json.dumps([backend])})


def _serving(folder: Path, environ: dict[str, str]) -> Iterator[Place]:
    server = Server(folder, environ)
    server.start()
    try:
        yield Place(server)
    finally:
        server.stop()
