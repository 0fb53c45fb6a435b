"""Does any test notice when a decision is altered? `python -m tests.mutate [module ...]`

Modules are named as below `proxy`: decide, rules, upstream.listing. All of them take some 20 minutes.

Each mutant is a small change of one module that decides; the tests of pure decisions run on it in a process
of their own. Survivors are printed; those that cannot be told from the original by any test stand in
`mutants.txt` with the reason. Exit status 1 when another one survives.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import faulthandler
import importlib.abc
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
MODULES = ("body", "consistency", "decide", "facts", "objects", "redact", "rules", "writes")
MODULES += ("upstream.listing",)
TESTS = [f"tests/proxy/test_{n}.py" for n in ("rows", "decide", "redact", "body", "writes", "objects")]
TESTS += ["tests/proxy/test_consistency.py", "tests/upstream/test_listing.py"]
OPTIONS = ["-c", os.devnull, "--rootdir", str(ROOT), "--noconftest", "--import-mode=importlib"]
OPTIONS += ["-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto"]
OPTIONS += ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
JUSTIFIED = ROOT / "tests" / "mutants.txt"
SECONDS = 60

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.Sub: ast.BitAnd,
    ast.Add: ast.Sub,
}
_NAMES = {
    "READ": "WRITE",
    "WRITE": "DELETE",
    "DELETE": "READ",
    "ALLOW": "FORBID",
    "HIDE": "FORBID",
    "FORBID": "HIDE",
    "any": "all",
    "all": "any",
}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may stand in a node's place."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARE:
        yield ast.Compare(node.left, [_COMPARE[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        for number in range(len(node.values)):
            rest = [value for place, value in enumerate(node.values) if place != number]
            yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        yield ast.BinOp(node.left, _BINARY[type(node.op)](), node.right)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Attribute) and node.attr in _NAMES and isinstance(node.value, ast.Name):
        yield ast.Attribute(node.value, _NAMES[node.attr], node.ctx)
    elif isinstance(node, ast.Name) and node.id in ("any", "all", "_R", "_W", "_D", "_A", "_ANY"):
        swaps = {"_R": "_W", "_W": "_D", "_D": "_A", "_A": "_ANY", "_ANY": "_R"}
        yield ast.Name(_NAMES.get(node.id) or swaps[node.id], node.ctx)
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value)
    elif (
        isinstance(node, ast.Raise | ast.Continue | ast.Break | ast.AugAssign)
        or isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
    ):
        yield ast.Pass()


def _is_call(node: ast.AST) -> bool:
    """Whether it is a statement that does nothing but call."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _constants(value: object) -> Iterator[ast.Constant]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, str) and any(map(str.isalnum, value)) and " " not in value:
        yield ast.Constant(f"{value}x")


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Each altered source with a line that tells what was altered."""
    tree = ast.parse(source)
    for path, node in _places(tree):
        for change in changes(node):
            altered = copy.deepcopy(tree)
            _replace(altered, path, change)
            yield (
                f"{ast.unparse(node)}  ->  {ast.unparse(change)}",
                ast.unparse(ast.fix_missing_locations(altered)),
            )


Place = list[tuple[str, int | None]]


def _places(tree: ast.AST, path: Place | None = None) -> Iterator[tuple[Place, ast.AST]]:
    """All nodes that decide something: annotations, imports and docstrings do not."""
    path = path or []
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "type_params", "decorator_list"):
            continue
        children = enumerate(value) if isinstance(value, list) else [(None, value)]
        for place, child in children:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Import | ast.ImportFrom):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            here = [*path, (field, place)]
            yield here, child
            yield from _places(child, here)


def _replace(tree: ast.AST, path: Place, change: ast.AST) -> None:
    for field, place in path[:-1]:
        tree = getattr(tree, field) if place is None else getattr(tree, field)[place]
    field, place = path[-1]
    if place is None:
        setattr(tree, field, change)
    else:
        getattr(tree, field)[place] = change


class Altered(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes the import of one module give an altered one."""

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._source = source

    def find_spec(self, name: str, path: object, target: object = None) -> object:  # type: ignore[override]
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, self._name, "exec"), module.__dict__)


def passes() -> bool:
    """Whether all tests pass, in this process."""
    with contextlib.redirect_stdout(io.StringIO()):
        return pytest.main([*OPTIONS, *TESTS]) == 0


def survives(name: str, source: str) -> bool:
    """Whether all tests pass, in a process of its own, with a module so altered."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    for known in list(sys.modules):
        if known.split(".")[0] in ("proxy", "tests"):
            del sys.modules[known]
    sys.meta_path.insert(0, Altered(f"proxy.{name}", source))
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    os._exit(0 if passes() else 1)


def justified() -> set[str]:
    """Mutants that mean the same as the original: each a line `module: change  # reason`."""
    lines = JUSTIFIED.read_text().splitlines() if JUSTIFIED.exists() else []
    return {line.split("  # ")[0] for line in lines}


def main(names: list[str]) -> int:
    """Try all mutants of some modules, and tell of those that survive."""
    # The first also loads what every mutant needs; the second proves that a fresh import does no harm.
    if not (passes() and survives("none", "")):
        print("The tests fail without any change.")
        return 2
    known, count, lived = justified(), 0, []
    for name in names or MODULES:
        found = list(mutants(path_of(name).read_text()))
        with ThreadPoolExecutor(2) as pool:
            alive = list(pool.map(lambda mutant, name=name: survives(name, mutant[1]), found))
        count += len(found)
        survivors = [f"{name}: {what}" for (what, _), lives in zip(found, alive, strict=True) if lives]
        lived += survivors
        print(f"{name}: {len(found)} mutants, {len(survivors)} survive", *survivors, sep="\n  ", flush=True)
    left = [line for line in lived if line not in known]
    killed = 1 - len(lived) / max(count, 1)
    print(f"killed {killed:.1%} of {count}; survivors that nobody justified: {len(left)}")
    print(*left, sep="\n")
    return 1 if left else 0


def named(arguments: list[str]) -> list[str]:
    """The modules of a command line. Exits with 2 for one that there is not, and with 0 for `--help`."""
    parser = argparse.ArgumentParser("python -m tests.mutate", description=__doc__.partition(" `")[0])
    parser.add_argument("module", nargs="*", help=f"as below `proxy`; {', '.join(MODULES)} if none")
    found: list[str] = parser.parse_args(arguments).module
    for name in found:
        if not path_of(name).is_file():
            parser.error(f"there is no module {name!r} in proxy")
    return found


def path_of(name: str) -> Path:
    """The file of a module, which is named as below `proxy`."""
    return ROOT / "proxy" / f"{name.replace('.', '/')}.py"


if __name__ == "__main__":
    chosen = named(sys.argv[1:])
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.exit(main(chosen))
