"""How one emulator behaves; every switch of it in one value."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Conflicts = Literal["update", "commit", "locks", "none"]

MAX_BODY_BYTES = 5 * 2**20
MAX_CELL_BYTES = 126 * 1024
MAX_LISTING_BYTES = 3 * 2**20


@dataclass(frozen=True)
class Options:
    """Switches of an emulator.

    `conflicts` says when two transactions that write the same row collide: "update", the second writer is
    refused at once, also where its snapshot is stale; "commit", whoever commits second is refused;
    "locks", a write is refused only while another open transaction holds the row, so that a stale
    snapshot may overwrite; "none", the last one wins silently. A transaction that has been idle for
    `transaction_timeout_s` is rolled back, as its client is gone. `vips` are the addresses told in table
    statistics, to which a client without configured data endpoints connects. `scramble` returns the rows
    of each page in reverse, as no order is promised. Committed data outlives the process in the file
    `journal`. `seed` is that of the faults' chances. The same data is served at `endpoints` addresses,
    over TLS if `tls` holds the files of a certificate and its key.
    """

    version: Literal["5.4", "5.5"] = "5.5"
    conflicts: Conflicts = "update"
    buckets: tuple[str, ...] = ("vastdb",)
    access_key: str = field(default_factory=lambda: secrets.token_hex(10))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20))
    host: str = "127.0.0.1"
    port: int = 0
    endpoints: int = 1
    tls: tuple[Path, Path] | None = None
    vips: tuple[str, ...] = ()
    scramble: bool = False
    transaction_timeout_s: float = 60.0
    journal: Path | None = None
    seed: int = 0

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    @property
    def server_header(self) -> str:
        return f"vast {self.version}.0.0"

    @property
    def partitions(self) -> bool:
        """Whether listed columns carry metadata, as they do from 5.5 on."""
        return self.version == "5.5"
