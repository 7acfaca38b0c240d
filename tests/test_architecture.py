"""The rules of the house, held by the machine; and for each rule, a source that breaks it and is caught."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.figures import Source, hard_sentences_by_package, imports_between, read_sources

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("controller", "worker", "shared")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40
NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "helpers", "helper", "types", "misc"}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "marshal", "shelve", "dill", "imp"}
FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
STATEMENT_RUNNERS = {"execute", "executemany", "exec_driver_sql", "executescript", "scalar", "scalars"}
STATEMENT_MAKERS = {"text", "sql.text", "sa.text", "sqlalchemy.text"}

Complaints = Iterator[str]


def _sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if "__pycache__" not in path.parts]


#: `echelon/` holds the public modules and a link to each package; `rglob` follows no links.
OURS = _sources("echelon", *PACKAGES)
#: Alembic runs its own two kinds of module; they are no part of what is imported.
IMPORTED = [path for path in OURS if "migrations" not in path.parts]
#: The bench is a program of its own, and other engines' modules work when they are imported.
WRITTEN = OURS + _sources("bench")
EVERYTHING = OURS + _sources("tests", "bench", "example", "img")


# One function per rule of a single file: (path, tree, text) -> what is wrong, one sentence with its line each.


def long_file(path: Path, tree: ast.Module, text: str) -> Complaints:
    lines = text.count("\n")
    if lines > MAX_FILE_LINES:
        yield f"1: {lines} lines, at most {MAX_FILE_LINES}: a file is about one thing"


def long_functions(path: Path, tree: ast.Module, text: str) -> Complaints:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield f"{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}"


def no_docstring(path: Path, tree: ast.Module, text: str) -> Complaints:
    if not ast.get_docstring(tree):
        yield "1: the module does not say what it is for"


def name_that_says_nothing(path: Path, tree: ast.Module, text: str) -> Complaints:
    if {path.stem, path.parent.name} & NAMES_THAT_SAY_NOTHING:
        yield "1: the name does not say what the module is about"


def forbidden_import(path: Path, tree: ast.Module, text: str) -> Complaints:
    for line, name in _imports(tree):
        if name.split(".")[0] in FORBIDDEN_IMPORTS:
            yield f"{line}: imports {name}"


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def forbidden_call(path: Path, tree: ast.Module, text: str) -> Complaints:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if ast.unparse(node.func) in FORBIDDEN_CALLS:
            yield f"{node.lineno}: calls {ast.unparse(node.func)}"
        for keyword in node.keywords:
            if keyword.arg == "shell" and ast.unparse(keyword.value) != "False":
                yield f"{node.lineno}: a shell that nobody asked for"


def composed_statement(path: Path, tree: ast.Module, text: str) -> Complaints:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = ast.unparse(node.func)
        if (name.split(".")[-1] in STATEMENT_RUNNERS or name in STATEMENT_MAKERS) and _is_composed(node.args[0]):
            yield f"{node.lineno}: a statement put together from strings: {ast.unparse(node.args[0])[:60]}"


def _is_composed(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add):
        return any(_is_text(side) for side in (node.left, node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr == "format" and _is_text(node.func.value)
    return False


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def work_at_import(path: Path, tree: ast.Module, text: str) -> Complaints:
    for node in tree.body:
        if isinstance(node, ast.For | ast.While | ast.With | ast.Expr) and not _declares(node):
            yield f"{node.lineno}: works when it is imported: {ast.unparse(node).splitlines()[0][:60]}"


def _declares(node: ast.stmt) -> bool:
    """Tell whether a statement is a docstring, or makes a record that finds its own place (a table's `Index(...)`)."""
    if not isinstance(node, ast.Expr):
        return False
    value = node.value
    return isinstance(value, ast.Constant) or (isinstance(value, ast.Call) and ast.unparse(value.func)[0].isupper())


def unfinished(path: Path, tree: ast.Module, text: str) -> Complaints:
    for number, line in enumerate(text.splitlines(), start=1):
        if re.search(r"(^|\s)#.*\b(TODO|FIXME|XXX)\b", line):
            yield f"{number}: unfinished"


def sleeping_test(path: Path, tree: ast.Module, text: str) -> Complaints:
    for node in _outside_of("until", tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}:
            yield f"{node.lineno}: a test waits for something that happens, never for time"
    for line, name in _imports(tree):
        if name.startswith(("unittest.mock", "mock")):
            yield f"{line}: a mock proves nothing about what it replaces; write a fake that passes the contract"


def _outside_of(function: str, tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what does not stand in a function of this name: the one that looks again and again until a deadline."""
    if not (isinstance(tree, ast.FunctionDef) and tree.name == function):
        yield tree
        for node in ast.iter_child_nodes(tree):
            yield from _outside_of(function, node)


Rule = Callable[[Path, ast.Module, str], Complaints]
RULES: list[tuple[Rule, list[Path]]] = [
    (long_file, EVERYTHING),
    (long_functions, EVERYTHING),
    (no_docstring, WRITTEN),
    (name_that_says_nothing, WRITTEN),
    (forbidden_import, WRITTEN),
    (forbidden_call, WRITTEN),
    (composed_statement, WRITTEN),
    (work_at_import, IMPORTED),
    (unfinished, WRITTEN),
    (sleeping_test, _sources("tests")),
]


@pytest.mark.parametrize(("rule", "paths"), RULES, ids=[rule.__name__ for rule, _ in RULES])
def test_no_source_breaks_the_rule(rule: Rule, paths: list[Path]) -> None:
    complaints = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        complaints += [f"{path.relative_to(ROOT)}:{said}" for said in rule(path, ast.parse(text), text)]

    assert not complaints, "\n".join(complaints)


PLANTED = [
    (long_file, "x = 1\n" * 401),
    (long_functions, "def f():\n" + "    x = 1\n" * 40),
    (no_docstring, "x = 1\n"),
    (forbidden_import, "import pickle\n"),
    (forbidden_import, "def f():\n    from marshal import loads\n"),
    (forbidden_call, "eval('1')\n"),
    (forbidden_call, "import yaml\nyaml.load(text)\n"),
    (forbidden_call, "subprocess.run('ls', shell=True)\n"),
    (forbidden_call, "subprocess.run('ls', shell=maybe)\n"),
    (composed_statement, "connection.execute(f'DELETE FROM job WHERE id = {job}')\n"),
    (composed_statement, "connection.execute(text('SELECT %s' % name))\n"),
    (composed_statement, "connection.execute('SELECT ' + name)\n"),
    (composed_statement, "connection.execute('SELECT {}'.format(name))\n"),
    (work_at_import, '"""Doc."""\nopen("/tmp/x")\n'),
    (work_at_import, "for name in names:\n    print(name)\n"),
    (unfinished, "x = 1  # FIXME\n"),
    (sleeping_test, "from time import sleep\nsleep(1)\n"),
    (sleeping_test, "from unittest.mock import patch\n"),
]


@pytest.mark.parametrize(("rule", "source"), PLANTED, ids=lambda part: getattr(part, "__name__", ""))
def test_a_source_that_breaks_the_rule_is_caught(rule: Rule, source: str) -> None:
    assert list(rule(ROOT / "shared" / "planted.py", ast.parse(source), source))


@pytest.mark.parametrize("name", sorted(NAMES_THAT_SAY_NOTHING))
def test_a_name_that_says_nothing_is_caught(name: str) -> None:
    assert list(name_that_says_nothing(ROOT / "shared" / f"{name}.py", ast.parse(""), ""))
    assert list(name_that_says_nothing(ROOT / "shared" / name / "port.py", ast.parse(""), ""))


MAX_HARD_SHARE = 0.01


def hard_sentence(package: str, sources: list[Source]) -> Complaints:
    hard, share = hard_sentences_by_package(sources)[package]
    if share >= MAX_HARD_SHARE:
        yield f"{package}: {share:.1%} of the sentences are hard, at most {MAX_HARD_SHARE:.0%}"
        yield from map(str, hard)


def test_every_package_is_in_plain_english() -> None:
    sources = read_sources()

    complaints = [said for package in hard_sentences_by_package(sources) for said in hard_sentence(package, sources)]

    assert not complaints, "\n".join(complaints)


def test_a_package_with_hard_sentences_is_caught() -> None:
    planted = '"""What a worker holds is counted."""\n'

    assert list(hard_sentence("shared", [Source("shared/planted.py", planted, ast.parse(planted))]))


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in PACKAGES:
        parts = ("echelon", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = imports_between({_module(path): path.read_text(encoding="utf-8") for path in OURS})

    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_a_circle_for_typing_alone_is_caught() -> None:
    sources = {
        "echelon.shared.a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from echelon.shared import b\n",
        "echelon.shared.b": "def f():\n    from echelon.shared.a import x\n",
    }

    with pytest.raises(graphlib.CycleError):
        tuple(graphlib.TopologicalSorter(imports_between(sources)).static_order())


def test_imports_are_absolute() -> None:
    relative = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in OURS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]

    assert relative == []


def test_every_folder_of_sources_is_a_package() -> None:
    assert {path.parent for path in OURS + _sources("tests") if not (path.parent / "__init__.py").exists()} == set()


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    # The width keeps a contract's name on one line.
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_arrow_points_downward() -> None:
    done = _lint_imports(ROOT)

    assert done.returncode == 0, done.stdout + done.stderr


#: Contract of setup.cfg -> a module, and an import there that breaks it.
BREACHES = {
    "The controller leans downward only": ("controller/core/planted_a.py", "import echelon.controller.engine"),
    "The engine's rooms lean downward only": (
        "controller/engine/base/planted_l.py",
        "import echelon.controller.engine.turn",
    ),
    "The parts of the controller's liveness do not lean on each other": (
        "controller/liveness/planted_m.py",
        "import echelon.controller.liveness.hearing",
    ),
    "The worker's liveness leans downward only": (
        "worker/liveness/planted_n.py",
        "import echelon.worker.liveness.fence",
    ),
    "The floor leans on nobody": ("shared/planted_b.py", "import echelon.controller.core"),
    "A worker knows nothing of the controller": ("worker/runtimes/planted_c.py", "import echelon.controller.core"),
    "The controller knows nothing of the worker, but for the process that holds both": (
        "controller/engine/planted_d.py",
        "import echelon.worker.runtimes",
    ),
    "The core touches nothing outside of itself": ("controller/core/planted_e.py", "import time"),
    "pika stays in its adapter": ("shared/broker/planted_f.py", "import pika.exceptions"),
    "Flask stays in the application and its interface": ("controller/engine/planted_g.py", "from flask import request"),
    "gunicorn stays in the processes that serve": ("controller/engine/planted_h.py", "import gunicorn.app.base"),
    "YAML is read in one place": ("controller/core/planted_i.py", "import yaml"),
    "RE2 stays in its adapter": ("controller/engine/planted_o.py", "import re2"),
    "SQLAlchemy, Alembic and the drivers stay in the datastore": ("shared/planted_j.py", "import sqlalchemy"),
    "docker stays in its adapter": ("worker/runtimes/planted_k.py", "import docker"),
}


@pytest.fixture(scope="module")
def verdict_on_breaches(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Copy the sources, plant every breach and return what import-linter says of it."""
    house = tmp_path_factory.mktemp("house")
    for package in ("echelon", *PACKAGES):
        shutil.copytree(ROOT / package, house / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", house)
    for path, source in BREACHES.values():
        (house / path).write_text(source + "\n", encoding="utf-8")
    return _lint_imports(house).stdout


@pytest.mark.parametrize("contract", BREACHES)
def test_an_arrow_that_points_upward_is_caught(contract: str, verdict_on_breaches: str) -> None:
    assert re.search(rf"^{re.escape(contract)} BROKEN", verdict_on_breaches, re.MULTILINE), verdict_on_breaches


#: What a library does while it is imported is its own business; what stands in the current folder is ours.
WATCHED_IMPORT = """
import os, sys, threading
WORK = {"socket.connect", "socket.bind", "subprocess.Popen", "os.mkdir", "os.remove", "os.rename", "sqlite3.connect"}
def ours():
    frame = sys._getframe(2)
    while frame and "site-packages" not in frame.f_code.co_filename:
        if frame.f_code.co_filename.startswith(os.getcwd()):
            return True
        frame = frame.f_back
    return False
def watch(event, args):
    if event in WORK or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")):
        if ours():
            raise SystemExit(f"{event}{args} while importing")
modules = sys.argv[1:]
sys.addaudithook(watch)
for module in modules:
    __import__(module)
if threading.active_count() > 1:
    raise SystemExit(f"threads run after importing: {threading.enumerate()}")
"""


def _import_watched(*modules: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-c", WATCHED_IMPORT, *modules]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_importing_every_module_opens_starts_and_writes_nothing() -> None:
    done = _import_watched(*map(_module, IMPORTED))

    assert done.returncode == 0, done.stderr


def test_a_module_that_works_when_imported_is_caught(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("log = open('log.txt', 'w')\n", encoding="utf-8")

    assert "while importing" in _import_watched("planted", cwd=tmp_path).stderr
