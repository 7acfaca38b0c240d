"""Placeholders: what is one, what is literal, and that values stay values."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.shared.errors import InvalidInput
from echelon.shared.expressions import (
    BUILTIN_NAMES,
    MAX_ARGUMENT,
    TemplateError,
    check_argument,
    compile_template,
    is_number,
    render_argument,
    to_text,
)
from echelon.shared.messages import JsonValue

SCOPE: dict[str, JsonValue] = {
    "url": "http://x",
    "name": "N",
    "n": 5,
    "yes": True,
    "empty": "",
    "nothing": None,
    "list": [1, "a", None],
    "map": {"key": "v"},
    "data-id": "D",
    "a.b": "dotted",
    "result": "R",
    "job_id": "J",
    "index": 3,
}
KNOWN = BUILTIN_NAMES | SCOPE.keys()


def render(text: str) -> str:
    return compile_template(text, KNOWN).render_text(SCOPE)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{url}", "http://x"),
        ("{{url}}", "http://x"),
        ("{{ url }}", "http://x"),
        ("{{\turl\n}}", "http://x"),
        ("--url={url};{name}", "--url=http://x;N"),
        ("{name}{name}", "NN"),
        ("{n} {yes} {nothing}.", "5 true ."),
        ("{list} {map}", '[1,"a",null] {"key":"v"}'),
        ("{data-id} {a.b}", "D dotted"),
        ("{job_id}-{index}", "J-3"),
        # literal
        ("awk '{print $1}'", "awk '{print $1}'"),
        ("{ print }", "{ print }"),
        ("{ url }", "{ url }"),
        ("{}", "{}"),
        ("{{}} {{ }}", "{{}} {{ }}"),
        ("{", "{"),
        ("}}{{", "}}{{"),
        ("{1..9} {a,b} {0}", "{1..9} {a,b} {0}"),
        ('{"a": {"b": 1}}', '{"a": {"b": 1}}'),
        ('{"a": {"b": "{name}"}}', '{"a": {"b": "N"}}'),
        ('{"a":{"b":{n}}}', '{"a":{"b":5}}'),
        ("{{.Names}}\t{{ .Status }}", "{{.Names}}\t{{ .Status }}"),
        ("{{{name}}}", "{N}"),
        ("{{name}", "{N"),
        ("{name}}", "N}"),
        ("{größe}", "{größe}"),
        # after a $
        ("${HOME}", "${HOME}"),
        ("${url}", "${url}"),
        ("${{ url }}", "${{ url }}"),
        ("${X:-{url}} {url}", "${X:-{url}} http://x"),
        ("$${url}", "$${url}"),
        ("${url", "${url"),
        ("$ {name} $1{name}", "$ N $1N"),
        # escaped
        ("\\{url}", "{url}"),
        ("\\{\\{ url }}", "{{ url }}"),
        ("\\{{name}}", "{N}"),
        ("\\\\{url}", "\\{url}"),
        ("\\n\\", "\\n\\"),
        # expressions
        ("{{ n + 1 }}", "6"),
        ("{{ n * 2 - 1 }} {{ 7 % 4 }} {{ 7 // 2 }}", "9 3 3"),
        ("{{ url ~ '/' ~ n }}", "http://x/5"),
        ("{{ 'a' if n > 3 else 'b' }}", "a"),
        ("{{ url | upper }}", "HTTP://X"),
        ("{{ url.replace('http', 'ftp') }}", "ftp://x"),
        ("{{ list | join('-') }}", "1-a-None"),
        ("{{ map.key }}{{ map['key'] }}{{ list[0] }}", "vv1"),
        ("{{ {'a': n} }}", '{"a":5}'),
        ("{{ {'a': n}}}", '{"a":5}'),
        ("{{ '}}' ~ \"{{\" }}", "}}{{"),
        ("{{ true }} {{ none }}", "true "),
        ("{{ result ~ result }}", "RR"),
        ("{{ nothing }}", ""),
        ("{{ [1, 2] | reverse }}", "[2,1]"),
        ("{{ n is even }}", "false"),
    ],
)
def test_a_text_is_filled_in(text: str, rendered: str) -> None:
    assert render(text) == rendered


@pytest.mark.parametrize(
    ("text", "offset", "said"),
    [
        ("{ulr}", 0, "'ulr' is not an input -> did you mean {url}? (for a literal brace write \\{ulr})"),
        ("ab {{ ulr }}", 3, "did you mean {url}?"),
        ("{URL}", 0, "did you mean {url}?"),
        ("{zzzzz}", 0, "declare it under input"),
        ("{map.key}", 0, "for an expression write {{ map.key }}"),
        ("{{ data-id }}", 0, "'data' is not an input"),
        ("{{ url ~ zzz }}", 0, "'zzz' is not an input"),
        ("{print}", 0, "\\{print}"),
        ("{{ 1 + }}", 0, "not an expression"),
        ("{{ url name }}", 0, "not an expression"),
        ("{{ json . }}", 0, "for literal braces write \\{\\{"),
        ("{{ url | nofilter }}", 0, "No filter named"),
        ("{{ n is nothingknown }}", 0, "No test named"),
        ("{{ range(9) }}", 0, "'range' is not an input"),
        ("{{ self }}{{ self.x }}", 0, "'self' is not an input"),
        ("{{ n }}{{ 'a' * 3 }}", 7, "* is for numbers"),
    ],
)
def test_what_cannot_be_filled_in_says_where_and_what_instead(text: str, offset: int, said: str) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_template(text, KNOWN)

    assert caught.value.offset == offset
    assert said in f"{caught.value} -> {caught.value.remedy}"
    assert isinstance(caught.value, InvalidInput)


@pytest.mark.parametrize(
    ("text", "names", "leading"),
    [
        ("{url}", {"url"}, "url"),
        ("{{ url }}x", {"url"}, "url"),
        ("{empty}{url}", {"empty", "url"}, "empty"),
        ("x{url}", {"url"}, None),
        ("\\{{url}", {"url"}, None),
        ("{{ url ~ n }}", {"url", "n"}, None),
        ("plain", set(), None),
        ("", set(), None),
    ],
)
def test_a_template_tells_what_it_takes_and_what_begins_it(text: str, names: set[str], leading: str | None) -> None:
    template = compile_template(text, KNOWN)

    assert (template.names, template.leading) == (names, leading)


@given(st.text(), st.text())
def test_a_value_arrives_as_it_is_and_is_never_scanned_again(first: str, second: str) -> None:
    template = compile_template("<{url}|{{ name }}|{{ url ~ '' }}>", KNOWN)

    assert template.render_text({"url": first, "name": second}) == f"<{first}|{second}|{first}>"


@pytest.mark.parametrize(
    "value", ["{{SECRET}}", "{0.__class__}", "{{7*7}}", "{name}", "${HOME}", "\\{url}", "{% if %}"]
)
def test_a_value_with_braces_means_nothing(value: str) -> None:
    assert compile_template("{url}", KNOWN).render_text({"url": value, "name": "x"}) == value


PIECES = st.sampled_from(
    ["{", "}", "{{", "}}", "$", "\\", "url", "name", " ", "'", '"', "{url}", "{{ url }}", "+", "|", "~", "(", ")",
     "[", "]", ".", ",", "*", "1", "if", "else", "not", "%", "#", "{%", "%}", "{#", "upper",
     "__class__", "\n", "é", "=", ":"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=25).map("".join))
def test_nothing_but_a_template_error_comes_out(text: str) -> None:
    try:
        template = compile_template(text, KNOWN)
        template.render_text(SCOPE)
        assert template.names <= KNOWN
    except TemplateError as error:
        assert 0 <= error.offset <= len(text)


@given(st.text(st.characters(exclude_characters="{}")))
def test_a_text_without_braces_is_itself(text: str) -> None:
    assert compile_template(text, KNOWN).render_text({}) == text


@given(st.text())
def test_a_text_whose_braces_are_escaped_is_itself(text: str) -> None:
    escaped = text.replace("$", "S").replace("\\", "/").replace("{", "\\{")

    assert compile_template(escaped, KNOWN).render_text({}) == text.replace("$", "S").replace("\\", "/")


def test_a_missing_value_is_an_error_that_names_it() -> None:
    with pytest.raises(TemplateError, match=re.escape("there is no value for {url}")):
        compile_template("{url}", None).render_text({})
    with pytest.raises(TemplateError, match="cannot be evaluated: 'url' is undefined"):
        compile_template("{{ url ~ 1 }}", None).render_text({})


def test_any_name_may_stand_where_no_names_are_known() -> None:
    assert compile_template("{whatever}", None).names == {"whatever"}


@pytest.mark.parametrize("text", ["{" * 131_000, "${" * 65_000, "{{" * 65_000, "{{ " * 43_000, "{{}}" * 32_000,
                                  "{url}" * 26_000, "{{'" * 40_000, "${}" * 40_000, "\\{" * 65_000, "{{(" * 43_000,
                                  "{{ " * 60 + "}}" * 60, "x" * 200_000 + "{url}"])  # fmt: skip
def test_a_monstrous_text_is_answered(text: str) -> None:
    try:
        compile_template(text, KNOWN)
    except TemplateError as error:
        assert len(str(error)) < 500


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (True, "true"),
        (False, "false"),
        (None, ""),
        (5, "5"),
        (-0.5, "-0.5"),
        (1e22, "1e+22"),
        ([1, "é", {"a": None}], '[1,"é",{"a":null}]'),
    ],
)
def test_a_value_has_one_form_as_text(value: object, text: str) -> None:
    assert to_text(value) == text


# --- arguments


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\0b", "'url' holds a NUL character"),
        ("\ud800", "half of a surrogate pair"),
        ("x" * (MAX_ARGUMENT + 1), "more than 131071 bytes"),
        ("é" * 70_000, "more than 131071 bytes"),
    ],
)
def test_an_argument_that_the_kernel_would_not_take_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        render_argument(compile_template("{url}", KNOWN), {"url": text})
    with pytest.raises(InvalidInput):
        check_argument(text)


def test_the_longest_argument_is_taken() -> None:
    check_argument("x" * MAX_ARGUMENT)


@pytest.mark.parametrize(
    "text",
    [
        "{v}",
        "{{ v }}x",
        "{empty}{v}",
        "{{ v | trim }}",
        "{{ v if n else '-x' }}",
        "{{ v ~ n }}",
        "{{ '' ~ v }}",
        "{{ v + 'x' }}",
        "{{ empty or v }}",
    ],
)
def test_a_value_that_begins_an_argument_with_a_dash_is_refused(text: str) -> None:
    template, scope = compile_template(text, KNOWN | {"v"}), SCOPE | {"v": "-rf"}

    with pytest.raises(InvalidInput, match=r"'v'.*begins with '-'"):
        render_argument(template, scope)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("-x{v}", "-x-rf"),
        ("--opt={v}", "--opt=-rf"),
        ("{{ '-o' ~ v }}", "-o-rf"),
        ("{{ '--verbose' if v else '--quiet' }}", "--verbose"),
        ("{name}{v}", "N-rf"),
        ("{minus}", "-5"),
        ("{{ minus * 2 }}", "-10"),
        ("-plain", "-plain"),
    ],
)
def test_a_dash_that_the_author_wrote_or_that_is_a_number_is_fine(text: str, rendered: str) -> None:
    template, scope = compile_template(text, KNOWN | {"v", "minus"}), SCOPE | {"v": "-rf", "minus": -5}

    assert render_argument(template, scope) == rendered


def test_a_dash_is_fine_for_an_input_that_allows_it() -> None:
    assert render_argument(compile_template("{v}", {"v"}), {"v": "-rf"}, {"v"}) == "-rf"


values = st.text() | st.integers() | st.floats(allow_nan=False) | st.booleans()


@given(st.sampled_from(["{a}", "{a}{b}", "{{ a }}{b}", "{{ a ~ b }}", "{{ b if a else a }}"]), values, values)
def test_no_argument_that_values_begin_starts_with_a_dash(text: str, a: JsonValue, b: JsonValue) -> None:
    try:
        argument = render_argument(compile_template(text, {"a", "b"}), {"a": a, "b": b})
    except InvalidInput:
        return

    assert not argument.startswith("-") or is_number(argument)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("len(list) + len(text)", "6"),
        ("sequence(1, 4) | join(',')", "1,2,3"),
        ("sequence(4, 1)", "[]"),
        ("from_json(json).a[1]", "2"),
        ("json | from_json | to_json", '{"a":[1,2]}'),
        ("split(text, ',') | last", "c"),
        ("text | split(',') | first", "a"),
        ("' a  b ' | split | join('+')", "a+b"),
    ],
)
def test_functions_can_be_called_by_name_and_are_no_inputs(source: str, text: str) -> None:
    template = compile_template("{{ " + source + " }}", {"list", "text", "json"})

    assert template.render_text({"list": [1], "text": "a,b,c", "json": '{"a": [1, 2]}'}) == text


def test_an_input_may_have_the_name_of_a_function() -> None:
    template = compile_template("{len} {{ len }} {{ split | upper }}", {"len", "split"})

    assert template.render_text({"len": "l", "split": "s"}) == "l l S"


@pytest.mark.parametrize("text", ["{", "[1,]", "NaN", '"\\ud800"', "1" * 30, ""])
def test_text_that_is_no_json_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(TemplateError, match="cannot be evaluated"):
        compile_template("{{ from_json(text) }}", {"text"}).render_text({"text": text})
