"""Measure the product's size, names and language; list what is to be renamed or rewritten.

`python -m tests.figures` prints a table, `--json` the same for programs. `--list names`, `classes` or `sentences`
prints each offender as `file:line: text`, for files below the paths given as further arguments. The product is
`controller/`, `worker/`, `shared/` and the public modules in `echelon/`, whose links to the other three folders are not
followed. Alembic's migrations count. Nothing is left out of the names but dunder methods.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import statistics
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("echelon", "controller", "worker", "shared")
LONG_FILE = 400
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

#: Words and phrases that make a sentence hard wherever they stand.
HARD_WORDS = re.compile(r"\b(whoever|whomever|somebody|nobody|such a one|in vain|for sure|what was not)\b", re.I)
#: A clause as the subject: "What a worker holds is ...". The word that follows tells it from a label ("what: ...").
HARD_SUBJECT = re.compile(r"[\s\"'(*]*(what|who|whatever|whichever)\s+[`\w]", re.I)
#: Code is no language: a column or a user of the system may be called `nobody`.
CODE = re.compile(r"``.+?``|`[^`]+`", re.S)
BLOCK_END = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+[.)]) )")
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[`]*[A-Z0-9`])")
#: Comments for tools.
DIRECTIVE = re.compile(r"#:?\s*(noqa|type:|pragma|fmt:|mypy:|ruff:|!)")


@dataclass(frozen=True, slots=True)
class Found:
    """One name or one sentence, and where it stands."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the product, read and parsed."""

    path: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The folder that the figures are given for: `controller/core`, `worker`."""
        parts = Path(self.path).parts
        return "/".join(parts[:2]) if parts[0] == "controller" and len(parts) > 2 else parts[0]

    @property
    def module(self) -> str:
        """The name that it is imported by."""
        parts = ("echelon", *(part for part in Path(self.path).with_suffix("").parts if part != "echelon"))
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_sources(root: Path = ROOT) -> list[Source]:
    return [
        Source(str(path.relative_to(root)), text, ast.parse(text))
        for path in find_files(root)
        for text in [path.read_text(encoding="utf-8")]
    ]


def find_files(root: Path) -> Iterator[Path]:
    """Yield the product's modules; links are left out, or each module would come twice."""
    for folder in FOLDERS:
        for here, _, names in sorted(os.walk(root / folder, followlinks=False)):
            paths = (Path(here, name) for name in sorted(names) if name.endswith(".py"))
            yield from (path for path in paths if not path.is_symlink())


# Names.


def list_functions(source: Source) -> Iterator[Found]:
    """Yield every function and method with its class before it, dunders left out."""
    for inside, node in _definitions(source.tree, ""):
        if not isinstance(node, ast.ClassDef) and not re.fullmatch(r"__\w+__", node.name):
            yield Found(source.path, node.lineno, inside + node.name)


def _definitions(tree: ast.AST, inside: str) -> Iterator[tuple[str, Definition]]:
    """Yield every class and function below a node, and the name of the class that it stands in, with a dot."""
    for node in ast.iter_child_nodes(tree):
        within = inside
        if isinstance(node, Definition):
            yield inside, node
            within = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        yield from _definitions(node, within)


def is_one_word(name: str) -> bool:
    return "_" not in name.rpartition(".")[2].strip("_")


def list_shared_classes(sources: Iterable[Source]) -> list[Found]:
    """Return the classes whose public name stands in more than one file, name by name."""
    places: dict[str, list[Found]] = defaultdict(list)
    for source in sources:
        for _, node in _definitions(source.tree, ""):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(Found(source.path, node.lineno, node.name))
    return [one for _, found in sorted(places.items()) if len({each.path for each in found}) > 1 for one in found]


def function_lengths(source: Source) -> list[int]:
    """Return how many lines each function has below its `def`, as those of other projects were measured."""
    nodes = (node for _, node in _definitions(source.tree, "") if not isinstance(node, ast.ClassDef))
    return [(node.end_lineno or node.lineno) - node.lineno for node in nodes]


# Language.


def is_hard(sentence: str) -> bool:
    """Tell whether a sentence has one of the hard words, or a clause as its subject and is no question."""
    plain = CODE.sub("`", sentence)
    if HARD_WORDS.search(plain):
        return True
    return bool(HARD_SUBJECT.match(plain)) and not plain.rstrip("\"')*_ ").endswith("?")


def docstring_sentences(path: str, tree: ast.Module) -> Iterator[Found]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | Definition) and ast.get_docstring(node):
            first = node.body[0]
            assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            yield from split_sentences(path, first.lineno, str(first.value.value))


def comment_sentences(path: str, text: str) -> Iterator[Found]:
    """Yield the sentences of comments; lines of comment one below the other are one text."""
    block: list[str] = []
    begin = last = (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or DIRECTIVE.match(token.string):
            continue
        if token.start != (last[0] + 1, last[1]):
            yield from split_sentences(path, begin[0], "\n".join(block))
            block, begin = [], token.start
        block.append(token.string.lstrip("#:").strip())
        last = token.start
    yield from split_sentences(path, begin[0], "\n".join(block))


def split_sentences(path: str, line: int, text: str) -> Iterator[Found]:
    """Yield the sentences of a text that begins at this line; paragraphs and items of lists end sentences as well."""
    begin = 0
    ends = sorted(match.span() for pattern in (BLOCK_END, SENTENCE_END) for match in pattern.finditer(text))
    for end, after in [*ends, (len(text), len(text))]:
        said = text[begin:end]
        if re.search(r"\w", said):
            blank = len(said) - len(said.lstrip())
            yield Found(path, line + text.count("\n", 0, begin + blank), " ".join(said.split()))
        begin = max(begin, after)


def all_sentences(path: str, tree: ast.Module, text: str) -> list[Found]:
    return [*docstring_sentences(path, tree), *comment_sentences(path, text)]


def hard_sentences_by_package(sources: Iterable[Source]) -> dict[str, tuple[list[Found], float]]:
    """Map each package to its hard sentences, and to their share of all sentences in docstrings and comments."""
    said: dict[str, list[Found]] = defaultdict(list)
    for source in sources:
        said[source.package] += all_sentences(source.path, source.tree, source.text)
    hard = {package: [found for found in sentences if is_hard(found.text)] for package, sentences in said.items()}
    return {package: (found, len(found) / max(1, len(said[package]))) for package, found in hard.items()}


# Imports.


def imports_between(sources: dict[str, str]) -> dict[str, set[str]]:
    """Map each module to the modules among `sources` that it imports anywhere, for typing or inside a function too."""
    graph: dict[str, set[str]] = {}
    for module, text in sources.items():
        found = graph.setdefault(module, set())
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.update(_target(node.module, alias.name, sources) for alias in node.names)
        found.intersection_update(sources)
        found.discard(module)
    return graph


def _target(module: str, name: str, sources: dict[str, str]) -> str:
    inner = f"{module}.{name}"
    return inner if inner in sources else module


def largest_cycle(graph: dict[str, set[str]]) -> int:
    """Return the number of modules in the largest group that all reach each other; 0 without a cycle."""
    reach = {module: _reachable(graph, module) for module in graph}
    groups = [{other for other in found if module in reach[other]} for module, found in reach.items()]
    return max(map(len, groups), default=0)


def _reachable(graph: dict[str, set[str]], module: str) -> set[str]:
    found: set[str] = set()
    left = [module]
    while left:
        new = graph[left.pop()] - found
        found |= new
        left += new
    return found


# Figures.


def measure(sources: list[Source], shared_classes: list[Found]) -> dict[str, float]:
    lines = [source.text.count("\n") for source in sources]
    lengths = sorted(length for source in sources for length in function_lengths(source)) or [0]
    names = [found for source in sources for found in list_functions(source)]
    docs = [found for source in sources for found in docstring_sentences(source.path, source.tree)]
    comments = [found for source in sources for found in comment_sentences(source.path, source.text)]
    paths = {source.path for source in sources}
    return {
        "lines": sum(lines),
        "files": len(lines),
        "largest_file": max(lines),
        "files_over_400": sum(count > LONG_FILE for count in lines),
        "function_median": statistics.median_low(lengths),
        "function_p90": lengths[int(0.9 * (len(lengths) - 1))],
        "function_max": lengths[-1],
        "largest_cycle": largest_cycle(imports_between({source.module: source.text for source in sources})),
        "one_word_names": _percent(sum(is_one_word(found.text) for found in names), len(names)),
        "shared_class_names": len({found.text for found in shared_classes if found.path in paths}),
        "hard_in_docstrings": _percent(sum(is_hard(found.text) for found in docs), len(docs)),
        "hard_in_comments": _percent(sum(is_hard(found.text) for found in comments), len(comments)),
        "hard_sentences": _percent(sum(is_hard(found.text) for found in docs + comments), len(docs + comments)),
    }


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def measure_all(sources: list[Source]) -> dict[str, dict[str, float]]:
    """Return the figures of each package and, as "total", of the product."""
    shared_classes = list_shared_classes(sources)
    packages: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        packages[source.package].append(source)
    figures = {name: measure(packages[name], shared_classes) for name in sorted(packages)}
    return {**figures, "total": measure(sources, shared_classes)}


HEAD = """\
                       lines     largest   function  cyc-  one- class hard sentences
package               /files   file;>400  med/90/max  le  word names  docs cmnt both"""


def as_table(figures: dict[str, dict[str, float]]) -> str:
    return "\n".join([HEAD, *(_row(name, row) for name, row in figures.items())])


def _row(name: str, row: dict[str, float]) -> str:
    size = f"{row['lines']}/{row['files']}"
    largest = f"{row['largest_file']};{row['files_over_400']}"
    function = f"{row['function_median']}/{row['function_p90']}/{row['function_max']}"
    hard = f"{row['hard_in_docstrings']:5.1f}{row['hard_in_comments']:5.1f}{row['hard_sentences']:5.1f}"
    counts = f"{row['largest_cycle']:4}{row['one_word_names']:6.1f}{row['shared_class_names']:6}"
    return f"{name.removeprefix('controller/'):18}{size:>10}{largest:>8}{function:>10}{counts} {hard}"


def list_offenders(kind: str, sources: list[Source]) -> list[Found]:
    if kind == "classes":
        return list_shared_classes(sources)
    if kind == "names":
        return [found for source in sources for found in list_functions(source) if is_one_word(found.text)]
    said = [found for source in sources for found in all_sentences(source.path, source.tree, source.text)]
    return sorted((found for found in said if is_hard(found.text)), key=lambda found: (found.path, found.line))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.figures", description="Measure size, names and language.")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--list", choices=("names", "classes", "sentences"), help="print each offender with its line")
    parser.add_argument("paths", nargs="*", help="list offenders below these paths only")
    given = parser.parse_args()
    sources = read_sources()
    if given.list:
        below = [os.path.relpath(Path(path).resolve(), ROOT) for path in given.paths] or ["."]
        for found in list_offenders(given.list, sources):
            if any(Path(found.path).is_relative_to(path) for path in below):
                print(found)
    else:
        figures = measure_all(sources)
        print(json.dumps(figures, indent=2) if given.json else as_table(figures))


if __name__ == "__main__":
    main()
