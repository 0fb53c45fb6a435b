"""Tables of rules that cannot be gone by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.consistency import contradictions
from proxy.errors import InvalidSettings
from proxy.identity.principal import ADMIN, READ, WRITE
from proxy.rules import RULES, Action, Check, Rule, Target
from proxy.start import check_rules

GET = Rule("GET_x", frozenset((READ, ADMIN)), Target.FLOW, Action.READ, "flowId")
PUT = Rule("PUT_x", frozenset((WRITE, ADMIN)), Target.FLOW, Action.WRITE, "flowId", Check.PUT_FLOW)
PATH = "/x/{flowId}"


def test_the_table_that_is_shipped_contradicts_nothing() -> None:
    assert contradictions(RULES) == []
    assert contradictions({PATH: {"GET": GET, "PUT": PUT}}) == []


@pytest.mark.parametrize(
    ("method", "rule", "said"),
    [
        ("HEAD", replace(GET, operation="HEAD_x"), "no such method"),
        ("PATCH", PUT, "no such method"),
        ("GET", replace(GET, scopes=frozenset()), "no scope passes"),
        ("GET", replace(GET, scopes=frozenset(("tams-api/reed", ADMIN))), "unknown scopes tams-api/reed"),
        ("GET", replace(GET, scopes=frozenset((READ,))), "administrators"),
        ("GET", replace(GET, param="sourceId"), "no parameter 'sourceId'"),
        ("GET", replace(GET, param=""), "do not go together"),
        ("GET", replace(GET, target=Target.LIST), "do not go together"),
        ("GET", replace(GET, check=Check.TAG), "body of a read"),
        ("GET", replace(GET, action=Action.WRITE), "a read is no write"),
        ("PUT", replace(PUT, action=Action.READ), "a write is no read"),
        ("PUT", replace(PUT, check=Check.INSTANCE), "INSTANCE does not decide on the target flow"),
        ("PUT", replace(PUT, target=Target.LIST, param="", check=Check.NOTHING), "can only be read"),
        ("PUT", replace(PUT, target=Target.NOTHING, param="", check=Check.NOTHING), "needs a check"),
        ("PUT", replace(PUT, target=Target.OBJECT, check=Check.NOTHING), "only its instances"),
    ],
)
def test_a_row_that_cannot_be_is_named(method: str, rule: Rule, said: str) -> None:
    found = contradictions({PATH: {method: rule}})
    assert any(problem.startswith(f"{method} {PATH}: ") and said in problem for problem in found), found


def test_two_rows_of_one_operation_contradict_each_other() -> None:
    (found,) = contradictions({PATH: {"GET": GET}, "/y/{flowId}": {"GET": GET}})
    assert found == f"GET /y/{{flowId}}: its operation GET_x is that of GET {PATH} already"


def test_a_server_does_not_start_with_such_a_table(tmp_path: Path) -> None:
    check_rules(RULES)
    with pytest.raises(InvalidSettings) as raised:
        check_rules({PATH: {"GET": replace(GET, scopes=frozenset())}, "/y": {"GET": GET}})
    assert len(raised.value.problems) == 3
