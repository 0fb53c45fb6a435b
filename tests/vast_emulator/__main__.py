"""`python -m tests.vast_emulator --port 9090 --version 5.5`: prints one JSON line once it listens."""

import argparse
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

from tests.vast_emulator.counts import Counts
from tests.vast_emulator.faults import Faults
from tests.vast_emulator.options import Options
from tests.vast_emulator.server import Server, core


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.vast_emulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--version", choices=["5.4", "5.5"], default="5.5")
    parser.add_argument("--conflicts", choices=["update", "commit", "locks", "none"], default="update")
    parser.add_argument("--bucket", action="append", help="database bucket, repeatable; 'vastdb' without any")
    parser.add_argument("--vip", action="append", default=[], help="address told in statistics, repeatable")
    parser.add_argument("--journal", type=Path, help="file in which committed transactions survive a restart")
    parser.add_argument("--transaction-timeout", type=float, default=60.0, help="seconds")
    parser.add_argument("--scramble", action="store_true", help="rows of a page come in reverse")
    parser.add_argument("--seed", type=int, default=0, help="of the faults' chances")
    parser.add_argument("--tls", type=Path, nargs=2, metavar=("CERTIFICATE", "KEY"), help="serve HTTPS")
    parser.add_argument("--keys-from-stdin", action="store_true", help="access and secret key, a line each")
    return parser


def main() -> None:
    given = _arguments().parse_args()
    options = Options(
        version=given.version,
        conflicts=given.conflicts,
        buckets=tuple(given.bucket or ["vastdb"]),
        host=given.host,
        port=given.port,
        vips=tuple(given.vip),
        scramble=given.scramble,
        transaction_timeout_s=given.transaction_timeout,
        journal=given.journal,
        seed=given.seed,
        tls=tuple(given.tls) if given.tls else None,
    )
    if given.keys_from_stdin:
        access_key, secret_key = (sys.stdin.readline().strip() for _ in range(2))
        options = replace(options, access_key=access_key, secret_key=secret_key)
    server = Server(core(options, Faults(options.seed), Counts()), options.port)
    told: dict[str, object] = {"port": server.server_address[1]}
    if not given.keys_from_stdin:
        told |= {"access_key": options.access_key, "secret_key": options.secret_key}
    print(json.dumps(told), flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.serve_forever()


if __name__ == "__main__":
    main()
