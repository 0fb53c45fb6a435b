"""Pages of listings: name filters, continuation and the headers that tell them."""

from collections.abc import Sequence
from typing import TypeVar

from tests.vast_emulator.wire import Request

Item = TypeVar("Item")


def named(request: Request, names: Sequence[str]) -> list[int]:
    """The places of the names that the request asks for."""
    exact = request.headers.get("tabular-name-exact-match", "")
    prefix = request.headers.get("tabular-name-prefix", "")
    return [
        place for place, name in enumerate(names) if (name == exact if exact else name.startswith(prefix))
    ]


def page(request: Request, items: Sequence[Item], names: Sequence[str]) -> tuple[list[Item], dict[str, str]]:
    """The items of one page and its headers; a request for the count alone gets no items."""
    chosen = [items[place] for place in named(request, names)]
    if request.flag("tabular-list-count-only"):
        return [], _headers(0, False) | {"tabular-list-count": str(len(chosen))}
    start = request.number("tabular-next-key", 0)
    end = start + max(1, request.number("tabular-max-keys", 1000))
    truncated = end < len(chosen)
    return chosen[start:end], _headers(end if truncated else 0, truncated)


def _headers(next_key: int, truncated: bool) -> dict[str, str]:
    return {"tabular-next-key": str(next_key), "tabular-is-truncated": "true" if truncated else "false"}
