"""The command line of `python -m tests.mutate`; what it does takes too long to be tested."""

from __future__ import annotations

import pytest

from tests.mutate import MODULES, named, path_of


def test_modules_are_named_as_below_proxy() -> None:
    assert named([]) == []
    assert named(list(MODULES)) == list(MODULES)
    assert path_of("upstream.listing").parts[-2:] == ("upstream", "listing.py")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [(["--help"], 0, "usage"), (["decide", "nothing"], 2, "'nothing'"), (["--fast"], 2, "--fast")],
)
def test_what_it_does_not_know_is_told(
    arguments: list[str], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        named(arguments)
    said = capsys.readouterr()
    assert ended.value.code == status and told in said.out + said.err
