"""Why RabbitMQ cannot be used, as far as no server is needed to tell; see tests/contract/test_rabbitmq_causes.py."""

from __future__ import annotations

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from echelon.shared.broker.rabbitmq import RabbitBroker
from echelon.shared.broker.rabbitmq.causes import Trouble
from echelon.shared.errors import InvalidInput
from tests.contract.rabbit import SIGNER


@pytest.mark.parametrize("options", ["{'cafile':'/nowhere/ca.pem'}", "{'cafile':'/dev/null'}", "{'cafile"])
def test_options_of_tls_that_cannot_be_used_are_refused_without_the_password(options: str) -> None:
    with pytest.raises(InvalidInput, match="the broker's URL cannot be used") as told:
        RabbitBroker(f"amqps://guest:S3CR3T@localhost:1/%2F?ssl_options={options}", SIGNER)

    assert "S3CR3T" not in str(told.value)
    assert ("ssl_options" in str(told.value)) == ("}" in options)


def test_a_part_that_works_does_not_hide_that_another_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(pika.ConnectionParameters("here", 1234))
    refusal = ChannelClosedByBroker(406, "PRECONDITION_FAILED for queue 'orders' in vhost '/'")
    trouble.note_failure("listening", refusal)
    trouble.clear("publishing")
    trouble.note_failure("listening", refusal)
    trouble.note_failure("another listener", refusal)
    trouble.clear("listening")

    assert "'orders'" in (trouble.words or "")
    assert len(caplog.records) == 1, "one cause is said once, however often it is tried and by however many"
    trouble.clear("another listener")
    assert trouble.words is None
