"""A signature holds for one body, one queue and one volume."""

from __future__ import annotations

from pathlib import Path

import pytest

from echelon.shared.codec import MAX_BYTES, read_sender
from echelon.shared.errors import VolumeUnavailable
from echelon.shared.ids import new_worker_id
from echelon.shared.messages import REPORTS, orders_queue
from echelon.shared.signing import NotSigned, Signer, make_signer
from echelon.shared.volume import Volume

BODY = b'{"kind":"report"}'


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume.create(tmp_path / "volume")


def test_those_who_share_a_volume_accept_each_other(volume: Volume) -> None:
    signature = make_signer(volume).sign_body(REPORTS, BODY)

    make_signer(Volume.open(volume.root)).check_signature(REPORTS, BODY, signature)


@pytest.mark.parametrize(
    ("queue", "body"),
    [
        (REPORTS, BODY + b" "),
        (REPORTS, b""),
        (orders_queue(new_worker_id()), BODY),
        (REPORTS.removesuffix("s"), b"s" + BODY),
        (REPORTS + "\0" + BODY.decode(), b""),
    ],
    ids=["changed", "empty", "another direction", "moved border", "moved border with a zero"],
)
def test_a_signature_is_of_no_use_for_anything_else(volume: Volume, queue: str, body: bytes) -> None:
    signer = make_signer(volume)

    with pytest.raises(NotSigned):
        signer.check_signature(queue, body, signer.sign_body(REPORTS, BODY))


@pytest.mark.parametrize("signature", [None, "", "é", "\ud800", b"bytes", 7, {"a": 1}, "0" * 64])
def test_what_is_no_signature_is_refused(volume: Volume, signature: object) -> None:
    with pytest.raises(NotSigned):
        make_signer(volume).check_signature(REPORTS, BODY, signature)


def test_another_volume_signs_otherwise(volume: Volume, tmp_path: Path) -> None:
    other = make_signer(Volume.create(tmp_path / "other"))

    assert len({one.sign_body(REPORTS, BODY) for one in (make_signer(volume), other, Signer(b""))}) == 3


def test_a_key_that_cannot_be_read_is_an_error_with_its_place(volume: Volume) -> None:
    Path(volume.root, ".echelon/key").mkdir()

    with pytest.raises(VolumeUnavailable, match="/key"):
        make_signer(volume)


@pytest.mark.parametrize(
    ("body", "sender"),
    [
        (b'{"kind":"report","worker":"w1"}', ("w1", "worker 'w1'")),
        (
            b'{"kind":"report","worker":"w1","card":{"name":"n\\u001b[31m","host":"h","version":"0.1"}}',
            ("w1", r"worker 'w1' ('n\x1b[31m' on 'h', release '0.1')"),
        ),
        (b'{"kind":"orders","worker":"w1"}', ("", "a controller")),
        (b'{"kind":"report","worker":"' + b"w" * 1000 + b'"}', ("w" * 64, f"worker '{'w' * 64}'")),
        (b"not json", ("", "an unknown sender")),
        (b"[" * 100_000, ("", "an unknown sender")),
        (b" " * MAX_BYTES + b'{"kind":"report","worker":"w1"}', ("", "an unknown sender")),
    ],
    ids=["result", "heartbeat", "orders", "long", "text", "deep", "huge"],
)
def test_the_sender_of_an_untrusted_message_can_be_logged(body: bytes, sender: tuple[str, str]) -> None:
    assert read_sender(body) == sender
