"""Checks an answer against a shape of the interface."""

from __future__ import annotations

from typing import Any

import msgspec


def assert_shape(answer: object, shape: Any) -> None:
    """Fail unless an answer has exactly the fields of a shape, each of its type."""
    assert msgspec.convert(answer, shape) == answer
