"""Every cell of the table of `tests/authorization/test_table.py`, with the store behind HTTP."""

from __future__ import annotations

import pytest

from proxy.rules import EXTENSIONS, RULES
from tests.proxy.support import Proxy, new_id
from tests.upstream.over_http import copied

globals().update(
    {name: value for name, value in vars(copied("authorization/test_table")).items() if name[:2] != "__"}
)

BEYOND = [
    (method, template)
    for template, methods in RULES.items()
    for method, rule in methods.items()
    if rule.operation in EXTENSIONS
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("method", "template"), BEYOND)
async def test_what_our_store_has_beyond_the_specification_is_not_supported(
    proxy: Proxy, method: str, template: str
) -> None:
    path = template.replace("{flowId}", new_id()).replace("{sourceId}", new_id())
    body = {"id": path.rsplit("/", 1)[-1], "format": "urn:x-nmos:format:data"}
    answer = await proxy.call("admin", method, path, None if method in ("GET", "DELETE") else body)
    # Writes look for their resource first, as everywhere.
    assert answer.status_code == (404 if template == "/sources/{sourceId}" else 501), answer.text
