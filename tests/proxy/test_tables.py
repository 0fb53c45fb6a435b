"""What commands print as a table can be taken from it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from proxy.commands import policy_show
from proxy.commands.policy_show import tell_table

ID = "7833e16b-9611-4c0a-9e0e-0f0f0f0f0f0f"
URL = "https://receiver.example/" + "long/" * 60


def test_what_goes_to_a_program_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    tell_table(("id", "url", "error"), [(ID, URL, "[bold]no answer"), ("", "yes", "")])
    head, row, _ = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "url", "error"]
    assert row.split() == [ID, URL, "[bold]no", "answer"]


def test_on_a_terminal_the_first_column_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(policy_show, "Console", lambda: console)
    tell_table(("id", "status", "url", "events"), [(ID, "created", URL, "flows/created " * 8)])
    assert ID in screen.getvalue()
    assert max(len(line) for line in screen.getvalue().splitlines()) <= 80
