"""The values of single tasks on their way into the store."""

from __future__ import annotations

from collections.abc import Collection

from shared.expressions import to_text
from shared.messages import JsonValue
from shared.sealing import Sealer


def seal_values(sealer: Sealer, values: dict[str, JsonValue], secret: Collection[str]) -> dict[str, JsonValue]:
    """Return values with the secret ones sealed."""
    if not any(name in secret for name in values):
        return values
    return {name: sealer.seal(to_text(value)) if name in secret else value for name, value in values.items()}
