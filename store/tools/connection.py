"""Where the tools work, and as whom: the same options and variables for each of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final, NoReturn, get_type_hints

import httpx
import typer

from store.client.media import NoMediaLibrary
from store.client.protocol import Policy
from store.client.tams import Access, Client, ClientCredentials, Fixed, Refused
from store.tools.errors import ToolError

PREFIX: Final = "TAMSCLI_"
"""Not that of the server's settings, which refuse names that they do not know."""

RETRIES: Final = Policy(4, 0.5)
GROUP: Final = "Connection"


def _option(name: str, help_: str, *more: str) -> Any:
    return typer.Option(
        f"--{name}",
        *more,
        envvar=PREFIX + name.upper().replace("-", "_"),
        help=help_,
        show_envvar=True,
        rich_help_panel=GROUP,
    )


WAYS: Final = ("client_id", "user", "token")
"""The options that say who calls: one of them."""

Text = str | None
OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "url": (Annotated[str, _option("url", "The URL of the TAMS service.")], "http://127.0.0.1:8000"),
    "client_id": (Annotated[Text, _option("client", "Log in by client credentials, as this client.")], None),
    "secret": (Annotated[Text, _option("secret", "The client's secret; - asks for it.")], None),
    "token_url": (
        Annotated[Text, _option("token-url", "Where `/token` is, when it is not below the service's URL.")],
        None,
    ),
    "scope": (
        Annotated[
            Text, _option("scope", "The scopes to ask for, spaces between; all of the client's if not said.")
        ],
        None,
    ),
    "user": (Annotated[Text, _option("user", "Log in by HTTP Basic, as this user.")], None),
    "password": (Annotated[Text, _option("password", "The user's password; - asks for it.")], None),
    "token": (Annotated[Text, _option("token", "A bearer token; - asks for it.")], None),
}


def access(
    url: str,
    client_id: str | None,
    secret: str | None,
    token_url: str | None,
    scope: str | None,
    user: str | None,
    password: str | None,
    token: str | None,
) -> Access:
    """What the options say about who calls. Raises `ToolError` when they contradict each other."""
    given = [name for name, value in (("client", client_id), ("user", user), ("token", token)) if value]
    if len(given) > 1:
        raise ToolError(f"--{given[0]} and --{given[1]} exclude each other: say who you are in one way")
    if client_id:
        scopes = (scope or "").split()
        return ClientCredentials(token_url or url, client_id, _secret(secret, "secret"), scopes)
    if user:
        return Fixed.basic(user, _secret(password, "password"))
    if token:
        return Fixed(f"Bearer {_secret(token, 'token')}")
    return Fixed("")


def _secret(value: str | None, name: str) -> str:
    if value is None:
        raise ToolError(f"--{name} is missing; so is {PREFIX}{name.upper()}")
    return str(typer.prompt(name, hide_input=True, err=True)) if value == "-" else value


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `client` is made of the options that all tools share.

    What ends the work is printed, and is exit status 1; 2 where it could not begin.
    """
    hints = get_type_hints(command, include_extras=True)
    own = inspect.signature(command)
    parameters = [p.replace(annotation=hints[n]) for n, p in own.parameters.items() if n != "client"]
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters.append(inspect.Parameter("context", kind, annotation=typer.Context))
    for name, (annotation, default) in OPTIONS.items():
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=annotation))

    def run(**given: Any) -> None:
        context = given.pop("context")
        connection = _chosen(context, {name: given.pop(name) for name in OPTIONS})
        _run(command, given, connection)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return run


def _chosen(context: typer.Context, connection: dict[str, Any]) -> dict[str, Any]:
    """The options, without ways to log in that only the environment has, where the command line has one."""
    sources = {name: context.get_parameter_source(name) for name in WAYS}
    said = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    left_out = set(WAYS) - said if any(connection[name] for name in said) else ()
    return {**connection, **dict.fromkeys(left_out)}


def _run(command: Callable[..., None], given: dict[str, Any], connection: dict[str, Any]) -> None:
    url = connection["url"]
    try:
        who = access(**connection)
    except ToolError as exc:
        _end(exc, 2)
    try:
        with Client(url, who, policy=RETRIES) as client:
            command(client=client, **given)
    except (ToolError, NoMediaLibrary) as exc:
        _end(exc, 1)
    except Refused as exc:
        _end(exc, 1, _hint(exc.status))
    except (httpx.TransportError, httpx.InvalidURL) as exc:
        _end(exc, 2, f"Is a TAMS service at {url}?")
    except KeyboardInterrupt as exc:
        _end(ToolError("stopped"), 130, "Run the same again: it goes on where it stopped.", exc)


def _hint(status: int) -> str:
    if status == 401:
        return (
            "The token has expired or is not valid. With a new one, run the same again: what is done stays."
        )
    if status == 403:
        return "Your permissions, or the scopes of the token, do not reach that far."
    return ""


def _end(problem: Exception, status: int, hint: str = "", cause: BaseException | None = None) -> NoReturn:
    typer.echo(f"error: {problem or type(problem).__name__}", err=True)
    if hint:
        typer.echo(hint, err=True)
    raise typer.Exit(status) from (cause or problem)
