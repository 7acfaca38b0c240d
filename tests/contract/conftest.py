"""Fixtures that several contract suites share: one server of each kind for the whole session."""

from __future__ import annotations

from tests.contract.rabbit import rabbitmq_server
from tests.contract.servers import postgresql_server
from tests.contract.stores import postgresql_store, postgresql_template, postgresql_url, store, store_url

__all__ = [
    "postgresql_server",
    "postgresql_store",
    "postgresql_template",
    "postgresql_url",
    "rabbitmq_server",
    "store",
    "store_url",
]
