"""Every operation that an expression can have, with what is tried of it by `tests.shared.bombs`."""

from __future__ import annotations

#: Filter -> how many arguments it takes beside its value, as far as they matter.
FILTERS = {
    "abs": 0, "capitalize": 0, "count": 0, "d": 2, "default": 2, "first": 0, "float": 1, "from_json": 0, "int": 2,
    "items": 0, "join": 2, "last": 0, "length": 0, "list": 0, "lower": 0, "max": 2, "min": 2, "replace": 2,
    "reverse": 0, "round": 2, "sort": 2, "split": 1, "string": 0, "sum": 2, "title": 0, "to_json": 0, "trim": 1,
    "truncate": 2, "unique": 2, "upper": 0, "urlencode": 0,
}  # fmt: skip

#: Test -> how many arguments it takes.
TESTS = {
    "!=": 1, "<": 1, "<=": 1, "==": 1, ">": 1, ">=": 1, "boolean": 0, "defined": 0, "divisibleby": 1, "eq": 1,
    "equalto": 1, "even": 0, "false": 0, "float": 0, "ge": 1, "greaterthan": 1, "gt": 1, "in": 1, "integer": 0,
    "iterable": 0, "le": 1, "lessthan": 1, "lower": 0, "lt": 1, "mapping": 0, "ne": 1, "none": 0, "number": 0,
    "odd": 0, "sameas": 1, "sequence": 0, "string": 0, "true": 0, "undefined": 0, "upper": 0,
}  # fmt: skip

#: Function -> what it is tried with.
FUNCTIONS = {
    "from_json": ["text", "digits", "deep", "wide_list", "most"],
    "len": ["text", "texts", "map", "most"],
    "sequence": ["0, most", "less, most", "most, less", "0, 131072", "0, text", "much, much", "0, small"],
    "split": ["text", "text, 'a'", "text, other", "texts", "text, most"],
    "to_json": ["text", "texts", "lists", "map", "most"],
}

#: Method of a text, list or mapping -> how many arguments it takes.
METHODS = {
    "capitalize": 0, "count": 2, "endswith": 2, "find": 2, "get": 2, "index": 2, "isalnum": 0, "isalpha": 0,
    "isascii": 0, "isdecimal": 0, "isdigit": 0, "isidentifier": 0, "islower": 0, "isnumeric": 0, "isspace": 0,
    "isupper": 0, "items": 0, "join": 1, "keys": 0, "lower": 0, "lstrip": 1, "partition": 1, "removeprefix": 1,
    "removesuffix": 1, "replace": 2, "rfind": 2, "rindex": 2, "rpartition": 1, "rsplit": 2, "rstrip": 1,
    "split": 2, "splitlines": 1, "startswith": 2, "strip": 1, "swapcase": 0, "title": 0, "upper": 0, "values": 0,
}  # fmt: skip

#: Kind of expression -> such expressions; what stands between two § is repeated, and nested where it opens a bracket.
OPERATORS = {
    "Add": ["text§+text§", "lists§+lists§", "§(text+§text", "most§+most§", "'' + wide"],
    "Sub": ["number§-most§", "text - text", "lists - lists"],
    "Mul": ["number§*most§", "text * much", "much * text", "texts * much", "[1] * most", "'a' * most", "small * much"],
    "Div": ["number§/most§", "small / much"],
    "FloorDiv": ["number§//most§", "(digits | int) // 7"],
    "Mod": ["number§%most§", "wide % 1", "'%999999999d' % 1", "wide % (1,)", "'%*d' % (much, 1)"],
    "Pow": ["9**9**9", "most ** most", "2 ** much", "much ** -1", "1§**1§", "small ** much"],
    "Neg": ["§-§1", "-text", "-most"],
    "Pos": ["§+§1", "+text"],
    "Not": ["§not §1"],
    "And": ["text§ and text§"],
    "Or": ["text§ or text§"],
    "Concat": ["text§~text§", "lists§~lists§", "§(text~§text", "map ~ map ~ map", "most§~most§"],
    "Compare": ["text§<text§", "lists == lists", "text in texts", "other in text", "[text, text] == [text, text]"],
    "CondExpr": ["1§ if 1 else 1§", "text§ if text else text§", "§(1 if 1 else §1"],
    "Getitem": [
        "text§[0]§",
        "text§[::-1]§",
        "text[0:most]",
        "text[most:less:-1]",
        "texts[most]",
        "map[text]",
        "map[lists]",
    ],
    "Getattr": ["text§.a§", "text.format", "map.keys", "number.real"],
    "Slice": ["text§[:most]§", "lists§[::1]§", "texts[::most]", "texts[less:most]"],
    "Const": ["§9§", "0x§f§", "1e§9§", "'§a§'", "1§_0§", "1.§9§"],
    "List": ["[text§,text§]", "§[§1", "§[§1]", "[lists§,lists§] == [lists]", "[text§,text§]|string|length"],
    "Tuple": ["(text§,text§)", "§(§1", "(1,§(1,§1))"],
    "Dict": ["{1:text§,2:text§}", "§{1:§1", "{text:text§,text:text§}"],
    "Pair": ["{§1:{§1:1}}"],
    "Name": ["text", "missing", "range(most)", "lipsum(most)", "dict(a=text)", "cycler(text)", "self"],
    "Call": [
        "text.replace('a', text)",
        "text§.replace('a','aa')§",
        "text.join(texts)",
        "text.upper(*lists)",
        "text§()§",
        "text.split(**map)",
        "text.format(text)",
        "texts.count(text)",
        "§text.upper(§1",
        "text.startswith((text, text))",
    ],
    "Filter": [
        "text|replace('a', text)",
        "text§|replace('a','aa')§",
        "text|map('upper')",
        "text|center(much)",
        "text|indent(much)",
        "text|wordwrap(1)",
        "wide|format(1)",
        "texts|batch(much, 1)|list",
        "map|tojson",
        "texts|slice(much)|list",
        "texts|selectattr('a')|list",
        "map|xmlattr",
        "texts|groupby('0')",
        "map|dictsort",
        "text|list§|list§",
        "lists|sum(start=[])",
        "7|round(much, 'floor')",
        "7|round(less)",
        "7|round(much)",
    ],
    "Test": [
        "wide is odd",
        "wide is even",
        "wide is divisibleby(1)",
        "text is in(texts)",
        "1§ is odd§",
        "text is filter",
    ],
    "Keyword": ["text|truncate(length=most)", "text|replace(new=text, old='a')", "texts|sort(attribute=path)"],
    "Operand": ["1§ < 1§", "text in text in text"],
    "MarkSafe": [],
    "MarkSafeIfAutoescape": [],
    "ContextReference": [],
    "DerivedContextReference": [],
    "EnvironmentAttribute": [],
    "ExtensionAttribute": [],
    "ImportedName": [],
    "InternalName": [],
    "TemplateData": [],
    "NSRef": [],
}
