"""How a task of a fan-out is named for people: by the values of its own item."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from echelon.controller.datastore.encoding import encode_json
from echelon.shared.messages import JsonValue

#: Stands for a secret value.
MASK: Final = "********"
_LONGEST: Final = 200


def label_item(values: Mapping[str, object] | None) -> str | None:
    """Return an item's values as one line of text, secret ones masked before; None: the task has none of its own."""
    if not values:
        return None
    texts = {name: value if isinstance(value, str) else encode_json(value) for name, value in values.items()}
    # A single value needs no name.
    label = next(iter(texts.values())) if len(texts) == 1 else " ".join(f"{name}={texts[name]}" for name in texts)
    label = "".join(character if character.isprintable() else " " for character in label)
    return label if len(label) <= _LONGEST else label[: _LONGEST - 1] + "…"


class ItemMasks:
    """Masks the secret values of the items of one job."""

    def __init__(self, find_secrets: Callable[[str], Collection[str]]) -> None:
        """`find_secrets` returns the secret inputs of a task class."""
        self._find_secrets = find_secrets
        self._known: dict[str, Collection[str]] = {}

    def mask_item(self, task_class: str, values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Return an item's values, the secret ones masked."""
        if task_class not in self._known:
            self._known[task_class] = self._find_secrets(task_class)
        return {name: MASK if name in self._known[task_class] else value for name, value in values.items()}

    def label_task(self, task_class: str, values: Mapping[str, JsonValue] | None) -> str | None:
        """Return the label of a task of this class."""
        return label_item(self.mask_item(task_class, values)) if values else None
