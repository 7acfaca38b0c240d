"""The words that the shapes of the interface list are those of the engine, and each of their fields is rendered."""

from __future__ import annotations

import typing
from enum import StrEnum

import pytest

from echelon.controller import catalogue_shapes, shape_words, shapes
from echelon.controller.catalogue.task_classes import InputSource, InputType
from echelon.controller.core.model import OnError, Source
from echelon.controller.core.states import State
from echelon.controller.engine.why.explanations import Code
from echelon.shared.messages import Outcome

WORDS: list[tuple[object, set[StrEnum]]] = [
    (shape_words.TaskState, set(State)),
    (shape_words.JobState, set(State) - {State.QUEUED}),
    (shape_words.TaskSource, set(Source)),
    (shape_words.ErrorRule, set(OnError)),
    (shape_words.AttemptOutcome, set(Outcome)),
    (shape_words.WhyCode, set(Code)),
    (typing.get_type_hints(catalogue_shapes.CatalogueInput)["source"], set(InputSource)),
    (typing.get_args(typing.get_type_hints(catalogue_shapes.CatalogueInput)["type"])[0], set(InputType)),
]


@pytest.mark.parametrize(("listed", "known"), WORDS)
def test_a_shape_lists_the_words_of_the_engine(listed: object, known: set[StrEnum]) -> None:
    assert set(typing.get_args(listed)) == {str(word) for word in known}


def test_every_state_is_counted() -> None:
    assert set(typing.get_type_hints(shapes.Counts)) == {str(state) for state in State}
