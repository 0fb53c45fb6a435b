"""From a request to a reply, without any socket."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from tests.vast_emulator.counts import Counts
from tests.vast_emulator.data import Data
from tests.vast_emulator.definitions import Definitions
from tests.vast_emulator.errors import Refusal, bad_request, not_emulated, not_found
from tests.vast_emulator.mvcc import Store, Transaction
from tests.vast_emulator.options import MAX_BODY_BYTES, Options
from tests.vast_emulator.wire import Reply, Request, error_reply

_EMPTY_LISTING = (
    b'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>'
    b"<IsTruncated>false</IsTruncated><Marker></Marker></ListBucketResult>"
)

OPERATIONS: dict[tuple[str, str], str] = {
    ("POST", "transaction"): "begin",
    ("PUT", "transaction"): "commit",
    ("DELETE", "transaction"): "rollback",
    ("GET", "transaction"): "get_transaction",
    ("HEAD", ""): "head_bucket",
    ("GET", "list"): "list_snapshots",
    ("POST", "schema"): "create_schema",
    ("PUT", "schema"): "alter_schema",
    ("DELETE", "schema"): "drop_schema",
    ("GET", "schema"): "list_schemas",
    ("POST", "table"): "create_table",
    ("PUT", "table"): "alter_table",
    ("DELETE", "table"): "drop_table",
    ("GET", "table"): "list_tables",
    ("GET", "column"): "list_columns",
    ("GET", "sorted-columns"): "list_sorted_columns",
    ("POST", "column"): "add_columns",
    ("PUT", "column"): "rename_column",
    ("DELETE", "column"): "drop_columns",
    ("GET", "stats"): "stats",
    ("POST", "rows"): "insert",
    ("PUT", "rows"): "update",
    ("DELETE", "rows"): "delete",
    ("GET", "data"): "query",
    ("POST", "projection"): "create_projection",
    ("PUT", "projection"): "rename_projection",
    ("DELETE", "projection"): "drop_projection",
    ("GET", "projection"): "list_projections",
    ("GET", "projection-columns"): "projection_columns",
    ("GET", "projection-stats"): "projection_stats",
}
_OUTSIDE = frozenset({"begin", "commit", "rollback", "get_transaction", "head_bucket", "list_snapshots"})

Handler = Callable[[Request, Transaction], Reply]


def operation_of(request: Request) -> str:
    """The name by which requests are counted and faults are aimed."""
    if request.command == "transaction" and request.flag("tabular-get-vast-version"):
        return "version"
    return OPERATIONS.get((request.method, request.command), "unknown")


@dataclass(frozen=True)
class Api:
    """Answers signed requests; refusals become S3 error replies."""

    options: Options
    store: Store
    counts: Counts

    def answer(self, request: Request, operation: str) -> Reply:
        try:
            if len(request.body) > MAX_BODY_BYTES:
                raise bad_request("EntityTooLarge", f"{len(request.body)} bytes")
            if "sub-table" in request.query:
                raise not_emulated("import tables")
            return (
                self._outside(request, operation)
                if operation in _OUTSIDE
                else self._inside(request, operation)
            )
        except Refusal as refusal:
            return error_reply(refusal)
        except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as exc:
            # What the flatbuffer readers raise on a body that is not theirs.
            return error_reply(bad_request("InvalidArgument", f"unreadable body: {exc}"))

    def _outside(self, request: Request, operation: str) -> Reply:
        """Operations about transactions and buckets themselves."""
        match operation:
            case "begin":
                return Reply(headers={"tabular-txid": str(self.store.begin())})
            case "commit":
                self.store.commit(request.txid)
            case "rollback":
                self.store.rollback(request.txid)
            case "get_transaction":
                self.store.transaction(request.txid)
            case _:
                self._require_bucket(request)
                if operation == "list_snapshots":
                    return Reply(headers={"Content-Type": "application/xml"}, body=_EMPTY_LISTING)
        return Reply()

    def _inside(self, request: Request, operation: str) -> Reply:
        """Operations that read or write in a transaction."""
        if operation == "version":
            return Reply()
        handler = self._handler(operation)
        if handler is None:
            raise not_emulated(f"{request.method} ?{request.command}")
        self._require_bucket(request)
        with self.store.using(request.txid) as transaction:
            return handler(request, transaction)

    def _handler(self, operation: str) -> Handler | None:
        for owner in (Data(self.options, self.store, self.counts), Definitions(self.options, self.store)):
            found: Handler | None = getattr(owner, operation, None)
            if found is not None:
                return found
        return None

    def _require_bucket(self, request: Request) -> None:
        bucket = request.parts()[0]
        if bucket not in self.options.buckets:
            raise not_found("NoSuchBucket", bucket)
