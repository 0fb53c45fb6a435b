"""Every row of the table, and what is meant by it."""

from __future__ import annotations

from pathlib import Path

from proxy.rules import RULES

ROWS = Path(__file__).with_name("rows.txt")
"""By operation: the first letters of the scopes that pass, method, path, target, action, parameter, check,
and what of the answer may name hidden things."""


def test_the_rows_say_what_they_are_meant_to() -> None:
    meant = {line.split()[0]: line.split()[1:] for line in ROWS.read_text().splitlines()}
    said = {
        rule.operation: [
            "".join(sorted(scope.removeprefix("tams-api/")[0] for scope in rule.scopes)),
            method,
            path,
            rule.target.value.replace(" ", "-"),
            rule.action.value,
            rule.param or "-",
            rule.check.name.lower(),
            rule.body.name.lower(),
        ]
        for path, methods in RULES.items()
        for method, rule in methods.items()
    }
    assert said == meant
