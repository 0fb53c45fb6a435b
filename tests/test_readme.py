"""README: its commands work, in order, on a real server; its settings are those that there are."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

import proxy.__main__
from proxy.app import Settings
from proxy.identity.clients import parse_clients
from store.settings import parse
from tests.bench.servers import ROOT
from tests.end_to_end.server import Server, environment

README = (ROOT / "README.md").read_text()
URL = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def make_targets() -> list[str]:
    return re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE)


def commands() -> str:
    """All commands but make's, which would start a server and test this test."""
    lines = "\n".join(blocks("sh")).splitlines()
    return "\n".join(line for line in lines if not line.startswith("make "))


def prepare(folder: Path, server: Server) -> None:
    """A checkout as `make run` leaves it, of which the server is not at the usual port."""
    with resources.as_file(resources.files("policies")) as shipped:
        shutil.copytree(shipped, folder / "policies")
    script = folder / ".venv" / "bin" / "tams-proxy"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m proxy "$@" --url {server.url}\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


def test_its_commands_do_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV makes the demo's media")
    server = Server(tmp_path)
    prepare(tmp_path, server)
    server.start()
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands().replace(URL, server.url)],
            cwd=tmp_path,
            env=environment() | {"COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        server.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.findall(r"# prints (.+)$", commands(), re.MULTILINE)
    assert len(said) >= 4
    printed = iter(done.stdout.splitlines())
    for line in said:
        assert any(other.endswith(line) for other in printed), f"{line!r} was not printed: {done.stdout}"
    assert "All as it should be" in done.stdout


def test_its_make_targets_exist() -> None:
    assert {"run", "test"} <= set(make_targets())
    for target in make_targets():
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_make_run_takes_a_folder_of_any_name(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    folder = tmp_path / "it's a folder"
    script = tmp_path / ".venv" / "bin" / "tams-proxy"
    script.parent.mkdir(parents=True)
    script.write_text('#!/bin/sh\necho "$TAMS_HOST $TAMS_PORT $TAMS_DATA"\n')
    script.chmod(0o755)
    made = ["make", "-s", "-o", ".venv/run.stamp", "run", f"DATA={folder}", "PORT=9001"]
    done = subprocess.run(made, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == f"127.0.0.1 9001 {folder}\n"


def test_its_commands_of_tams_proxy_exist() -> None:
    tree = get_command(proxy.__main__.app)
    for words in re.findall(r"tams-proxy ((?:[a-z]+ ?)+)", README):
        at: Any = tree
        for word in words.split():
            if not hasattr(at, "commands"):
                break
            assert word in at.commands, words
            at = at.commands[word]


def settings(model: type[BaseModel] | BaseModel, prefix: str = "TAMS_") -> dict[str, str]:
    """The names of all settings with their defaults, as the table writes them."""
    found = {}
    kind = model if isinstance(model, type) else type(model)
    for name, field in kind.model_fields.items():
        default = field.default
        if isinstance(default, BaseModel):
            found |= settings(default, f"{prefix}{name.upper()}__")
            continue
        found[prefix + name.upper()] = shown(default)
    return found


def shown(default: object) -> str:
    if default is None:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "`[]`" if default == () else f"`{default}`"


def test_every_setting_stands_in_the_table_with_its_default() -> None:
    rows = re.findall(r"^\| `(TAMS_\w+)` \| (.*?) ?\|", README, re.MULTILINE)
    assert dict(rows) == settings(Settings)
    assert len(rows) == len(dict(rows))


def test_no_other_setting_is_named() -> None:
    assert set(re.findall(r"\bTAMS_[A-Z_]+\b", README)) <= {
        *settings(Settings),
        "TAMS_CONFIG",
        "TAMS_ENV_FILE",
    }


def test_a_shell_can_read_its_sessions() -> None:
    lines = re.findall(r"^\$ (.+)$", "\n".join(blocks("console")), re.MULTILINE)
    assert len(lines) >= 5
    for line in lines:
        done = subprocess.run(["bash", "-n", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_its_example_of_a_client_with_a_key_is_accepted() -> None:
    (example,) = blocks("yaml")
    (client,) = parse_clients(example.encode()).values()
    assert [key.kid for key in client.keys] == ["k1"]


def test_its_example_of_an_issuer_names_what_the_table_does(tmp_path: Path) -> None:
    path = tmp_path / "tams.toml"
    path.write_text(blocks("toml")[2])
    (issuer,) = parse(Settings, {"TAMS_CONFIG": str(path)}).issuers
    assert issuer.config().problems() == []
    assert issuer.claims is not None and issuer.claims.subject == "upn" and issuer.introspection is not None


def test_its_example_of_a_tams_elsewhere_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "tams.toml"
    path.write_text(blocks("toml")[0])
    made = parse(Settings, {"TAMS_CONFIG": str(path)})
    assert made.upstream == "https://tams.internal.example/x"
    assert made.upstream_options.client_id == "tams-proxy"


def test_its_example_of_a_configuration_is_accepted(tmp_path: Path) -> None:
    example = blocks("toml")[1]
    path = tmp_path / "tams.toml"
    path.write_text(example)
    made = parse(Settings, {"TAMS_CONFIG": str(path)})
    assert made.base_url() == "https://tams.example.org"
    assert [backend.label for backend in made.backends()] == ["s3-main"]
    assert made.identity(made.data, made.policies, made.base_url()).issuers[0].alias == "staff"
