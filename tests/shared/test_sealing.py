"""Secrets rest and travel sealed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from shared.sealing import CannotOpen, Sealer
from shared.volume import Volume


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume.create(tmp_path / "volume")


@pytest.mark.parametrize("text", ["", "S3CR3T", "é\n\0", "\ud800", "x" * 100_000])
def test_a_sealed_text_opens_elsewhere_with_the_same_volume(volume: Volume, text: str) -> None:
    sealed = Sealer(volume).seal(text)

    assert Sealer(Volume.open(volume.root)).open(sealed) == text
    assert not text or text not in sealed
    assert Sealer(volume).seal(text) != sealed


def test_the_key_is_readable_by_its_owner_alone(volume: Volume) -> None:
    Sealer(volume).seal("x")

    assert Path(volume.root, ".echelon/key").stat().st_mode & 0o777 == 0o600


def test_many_sealers_at_once_agree_on_one_key(volume: Volume) -> None:
    sealed: list[str] = []
    threads = [threading.Thread(target=lambda: sealed.append(Sealer(volume).seal("x"))) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {Sealer(volume).open(text) for text in sealed} == {"x"}


@pytest.mark.parametrize("wrong", ["", "plain", "gAAAAA", "é"])
def test_what_was_not_sealed_here_does_not_open(volume: Volume, wrong: str) -> None:
    with pytest.raises(CannotOpen):
        Sealer(volume).open(wrong)
