"""Patterns of inputs: none stops the process, what RE2 cannot express is said with what to write instead."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.controller.catalogue.loader import load_catalogue
from echelon.controller.catalogue.patterns import MAX_REPEATS, find_ascii_escape, find_fault, matches_pattern
from echelon.controller.catalogue.task_classes import InputDefinition
from echelon.controller.catalogue.values import MAX_MATCHED, InvalidValue, check_value
from tests.figures import read_sources


@pytest.mark.parametrize(
    "pattern", [r"(\w+\s?)*", "(a+)+", "(a|a)*", "(a|aa)*b", "(.*)*x", "(?:a?a?){1000}", "a*" * 400]
)
@pytest.mark.parametrize("end", ["", "!"])
def test_a_pattern_that_makes_re_try_for_ever_answers(pattern: str, end: str) -> None:
    text = "a" * (MAX_MATCHED - 1) + end

    assert matches_pattern(pattern, text) is (not end and not pattern.endswith(("b", "x")))


@pytest.mark.parametrize(
    "pattern",
    ["[ab]{0,1000}" * 74, "(?:a{0,500}){0,501}", "a{999999999999}", "a{5}" * 201],
)
def test_a_pattern_that_unfolds_to_much_is_refused_before_it_is_compiled(pattern: str) -> None:
    fault = find_fault(pattern)

    assert fault is not None
    assert fault.remedy


# (pattern, what its error or remedy must hold, the pattern as the remedy has it, a text that it matches)
REFUSED = [
    (r"(?=.*\d).{8,}", "no look-around", r".*[0-9].*", "abc1"),
    (r"(?!-).*", "no look-around", r"[^-].*", "a"),
    (r"(?<=a)b", "no look-around", "ab", "ab"),
    (r"(a|b)\1", "write its content out", "aa|bb", "bb"),
    (r"(?P<n>a|b)(?P=n)", "write its content out", "aa|bb", "bb"),
    (r"[a-z]+\Z", r"write \z", r"[a-z]+\z", "abc"),
    (r"\u20ac", r"\x{20AC}", r"\x{20AC}", "\u20ac"),
    (r"\N{EURO SIGN}", r"\x{20AC}", r"\x{20AC}", "\u20ac"),
    ("a++", "repeat once", "a+", "aaa"),
    ("(?>a+)b", "repeat once", "a+b", "aab"),
    ("(?x)a b", "leave it out", "ab", "ab"),
    ("a(?#letter)b", "leave it out", "ab", "ab"),
    ("a{1001}", "* or +", "a+", "a" * MAX_REPEATS),
    ("a{5,2}", "n not above m", "a{2,5}", "aaa"),
    (r"[\p{L}\p{N} ]{1,200}", "* or +", r"[\p{L}\p{N} ]+", "Ünïcode 1"),
    ("a{,5}", "write {0,5}", "a{0,5}", "aaaaa"),
    ("x{,5}", r"\{,5}", r"x\{,5}", "x{,5}"),
    (r"\y", "wiki/Syntax", "y", "y"),
]


@pytest.mark.parametrize(("pattern", "said", "remedied", "text"), REFUSED)
def test_what_cannot_be_expressed_says_what_can(pattern: str, said: str, remedied: str, text: str) -> None:
    fault = find_fault(pattern)

    assert fault is not None and said in f"{fault.message} -> {fault.remedy}"
    assert matches_pattern(remedied, text)


def test_validate_names_the_line_and_the_remedy_and_nothing_is_written_to_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("tasks:\n  t:\n    exec_command: echo\n    input:\n      a:\n        pattern: '(?!x).*'\n")

    (mistake,) = load_catalogue([file]).mistakes

    assert (mistake.line, mistake.column) == (6, 18)
    assert "'(?!x).*' is not a regular expression of RE2: invalid perl operator: (?!" in mistake.message
    assert mistake.remedy and "no look-around" in mistake.remedy
    assert capfd.readouterr().err == ""


def test_a_word_of_a_pattern_is_ascii_and_a_letter_is_of_any_script() -> None:
    assert not matches_pattern(r"\w+", "grün") and matches_pattern(r"\p{L}+", "grün")
    assert not matches_pattern(r"\d", "٣") and matches_pattern(r"\p{N}", "٣")
    assert not matches_pattern(r"a\sb", "a\u2003b")
    assert matches_pattern(r"ü\b.*", "üa") and not matches_pattern(r"ü\b", "ü")


@pytest.mark.parametrize(
    ("pattern", "escape"),
    [
        (r"\w+", r"\w"), (r"[^\D]", r"\D"), (r"a\\\s", r"\s"), (r"\\w", None), (r"[a-z]\.\x{64}", None),
        (r"[\p{L}\d]+", None), (r"\bx", r"\b"),
    ],
)  # fmt: skip
def test_only_a_pattern_whose_meaning_changes_is_noticed(pattern: str, escape: str | None) -> None:
    assert find_ascii_escape(pattern) == escape


def test_validate_warns_once_of_ascii_alone(tmp_path: Path) -> None:
    task = "  {}: {{exec_command: echo, input: {{a: {{pattern: '{}'}}}}}}\n"
    file = tmp_path / "c.yaml"
    file.write_text("tasks:\n" + task.format("t", "[a-z]+") + task.format("u", r"\w+") + task.format("v", r"\d+"))

    loaded = load_catalogue([file])

    assert not loaded.mistakes
    assert [(one.line, one.remedy is not None) for one in loaded.warnings] == [(3, True)]
    assert r"\w is about ASCII" in loaded.warnings[0].message


@pytest.mark.parametrize("pattern", ["(?!x).*", "[ab]{0,1000}" * 74])
def test_a_stored_pattern_of_an_older_release_refuses_the_value_and_says_why(pattern: str) -> None:
    with pytest.raises(InvalidValue, match="cannot be checked, the pattern") as caught:
        check_value(InputDefinition("a", pattern=pattern), "y")

    assert "->" in caught.value.detail


#: Forms of keys, which stand where the keys are defined.
OWN_FORMS = {"self._form", "self._share"}


def foreign_patterns(tree: ast.AST) -> Iterator[str]:
    """Yield where Python's `re` or a glob takes what is no constant of the code and is not escaped."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        expression = ast.unparse(node.args[0])
        of_re = ast.unparse(node.func.value) == "re" and node.func.attr != "escape"
        if not (of_re or node.func.attr in {"glob", "rglob"}) or expression in OWN_FORMS or "re.escape(" in expression:
            continue
        if any(isinstance(part, ast.Name) and not part.id.isupper() for part in ast.walk(node.args[0])):
            yield f"{node.lineno}: {expression} could come from a user; match it with catalogue/patterns.py"


def test_no_text_of_a_user_becomes_an_expression_of_re_or_a_glob() -> None:
    found = [f"{source.path}:{said}" for source in read_sources() for said in foreign_patterns(source.tree)]

    assert found == []


@pytest.mark.parametrize("planted", ["re.compile(pattern)", "re.search(f'a{one}', text)", "folder.glob(wanted)"])
def test_a_text_that_becomes_an_expression_is_caught(planted: str) -> None:
    assert list(foreign_patterns(ast.parse(planted)))
