"""The JSON Schema of a catalogue file, for editors."""

from __future__ import annotations

from echelon.controller.catalogue.definitions import Catalogue
from echelon.controller.catalogue.keys import Dialect, Shape, describe_record

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> Shape:
    """Return the JSON Schema of a catalogue file."""
    shapes: dict[str, Shape] = {}

    def refer(record: type) -> Shape:
        name = record.__name__.removesuffix("Definition").removesuffix("Class").lower()
        if name not in shapes:
            shapes[name] = describe_record(record, dialect)
        return {"$ref": f"#/$defs/{name}"}

    dialect = Dialect(text=["string", "number", "boolean"], full=True, refer=refer)
    top = describe_record(Catalogue, dialect)
    ignored: Shape = {f"^{Catalogue.IGNORED}": {}}
    return {"$schema": DIALECT, "title": "Echelon catalogue", **top, "patternProperties": ignored, "$defs": shapes}
