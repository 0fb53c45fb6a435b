"""`/openapi.json`, `/docs` and `/redoc`: everything they load is served from here, nothing from elsewhere.

Swagger UI (Apache-2.0) and Redoc (MIT) are taken from the package fastapi-offline, which is not imported.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import orjson

from store.asgi import App, Receive, Scope, Send, send_response
from store.errors import MethodNotAllowed, NotFound
from store.http import JSON, Headers, Response, failure, utc_now

ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "redoc.standalone.js": "text/javascript; charset=utf-8",
}
SCRIPT: Final = (
    'SwaggerUIBundle({url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null});\n'
)
GUARDS: Final[Headers] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'",
    ),
]
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{head}</head>
<body>{body}</body></html>
"""

Answer = Callable[[], Response]


def documentation(title: str, describe: Callable[[], dict[str, Any]]) -> dict[bytes, App]:
    """Applications by exact path. `describe` makes the OpenAPI document, once, when it is first asked for."""
    made: list[bytes] = []

    def document() -> Response:
        if not made:
            made.append(orjson.dumps(describe()))
        return Response(200, [JSON], made[0])

    swagger = _page(
        title,
        '<link rel="stylesheet" href="/docs/swagger-ui.css">',
        '<div id="docs"></div><script src="/docs/swagger-ui-bundle.js"></script>'
        '<script src="/docs/start.js"></script>',
    )
    redoc = _page(
        title, "", '<redoc spec-url="/openapi.json"></redoc><script src="/docs/redoc.standalone.js"></script>'
    )
    answers: dict[bytes, Answer] = {
        b"/openapi.json": document,
        b"/docs": lambda: swagger,
        b"/redoc": lambda: redoc,
        b"/docs/start.js": lambda: _file(SCRIPT.encode(), "text/javascript; charset=utf-8"),
    }
    for name in ASSETS:
        answers[f"/docs/{name}".encode()] = partial(_asset, name)
    return {path: _served(answer) for path, answer in answers.items()}


def _served(answer: Answer) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        try:
            if method not in ("GET", "HEAD"):
                raise MethodNotAllowed("This is for reading.", allow=("GET", "HEAD"))
            found = answer()
        except (MethodNotAllowed, NotFound) as exc:
            found = failure(exc, utc_now())
        await send_response(send, found.status, found.headers, found.body, head=method == "HEAD")

    return app


def _page(title: str, head: str, body: str) -> Response:
    page = _PAGE.format(title=escape(title), head=head, body=body).encode()
    return Response(200, [("content-type", "text/html; charset=utf-8"), *GUARDS], page)


def _asset(name: str) -> Response:
    """A file of the package. Raises `NotFound` where it is not installed."""
    spec = find_spec("fastapi_offline")
    places = spec.submodule_search_locations if spec is not None else None
    path = Path(places[0]) / "static" / name if places else None
    if path is None or not path.is_file():
        raise NotFound("The pages' scripts are not installed (the package fastapi-offline).")
    return _file(path.read_bytes(), ASSETS[name])


def _file(content: bytes, content_type: str) -> Response:
    headers = [("content-type", content_type), ("cache-control", "max-age=3600"), *GUARDS]
    return Response(200, headers, content)
