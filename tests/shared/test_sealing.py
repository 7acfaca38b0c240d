"""Secrets rest and travel sealed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from echelon.shared.messages import JsonValue
from echelon.shared.sealing import CannotOpen, Sealer, open_value, seal_value
from echelon.shared.volume import Volume


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume.create(tmp_path / "volume")


@pytest.mark.parametrize("text", ["", "S3CR3T", "é\n\0", "\ud800", "x" * 100_000])
def test_a_sealed_text_opens_elsewhere_with_the_same_volume(volume: Volume, text: str) -> None:
    sealed = Sealer(volume).seal_text(text)

    assert Sealer(Volume.open(volume.root)).open_text(sealed) == text
    assert not text or text not in sealed
    assert Sealer(volume).seal_text(text) != sealed


def test_the_key_is_readable_by_its_owner_alone(volume: Volume) -> None:
    Sealer(volume).seal_text("x")

    assert Path(volume.root, ".echelon/key").stat().st_mode & 0o777 == 0o600


def test_many_sealers_at_once_agree_on_one_key(volume: Volume) -> None:
    sealed: list[str] = []
    threads = [threading.Thread(target=lambda: sealed.append(Sealer(volume).seal_text("x"))) for _ in range(8)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {Sealer(volume).open_text(text) for text in sealed} == {"x"}


def test_what_a_jobs_seal_has_sealed_opens_with_it_alone(volume: Volume) -> None:
    sealer = Sealer(volume)
    seal = sealer.new_seal()

    text = sealer.open_seal(seal).seal_text("S3CR3T")

    assert Sealer(Volume.open(volume.root)).open_seal(seal).open_text(text) == "S3CR3T"
    for other in (sealer, sealer.open_seal(None), sealer.open_seal(sealer.new_seal())):
        with pytest.raises(CannotOpen):
            other.open_text(text)


def test_a_seal_of_another_volume_does_not_open(volume: Volume, tmp_path: Path) -> None:
    seal = Sealer(Volume.create(tmp_path / "other")).new_seal()

    with pytest.raises(CannotOpen):
        Sealer(volume).open_seal(seal)


def test_a_digest_is_the_same_for_all_who_hold_the_key_and_for_nobody_else(volume: Volume, tmp_path: Path) -> None:
    digest = Sealer(volume).digest_text("body")

    assert Sealer(Volume.open(volume.root)).digest_text("body") == digest
    assert Sealer(volume).digest_text("other") != digest
    assert Sealer(Volume.create(tmp_path / "other")).digest_text("body") != digest


@pytest.mark.parametrize("value", ["", "S3CR3T", "sealed:x", 1, 2.5, True, None, [1, "é"], {"a": {"b": None}}])
def test_a_wrapped_value_comes_out_as_it_was_and_one_in_clear_stays(volume: Volume, value: JsonValue) -> None:
    seal = Sealer(volume).open_seal(None)
    wrapped = seal_value(seal, value)

    assert open_value(seal, wrapped) == value
    assert "S3CR3T" not in wrapped
    if not isinstance(value, str) or not value.startswith("sealed:"):
        assert open_value(seal, value) == value


@pytest.mark.parametrize("wrong", ["", "plain", "gAAAAA", "é"])
def test_what_was_not_sealed_here_does_not_open(volume: Volume, wrong: str) -> None:
    with pytest.raises(CannotOpen):
        Sealer(volume).open_text(wrong)
