from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.live import CATALOGUE
from tests.api.stand import Stand
from tests.contract.servers import postgresql_server
from tests.contract.stores import postgresql_template, postgresql_url, store_url

__all__ = ["postgresql_server", "postgresql_template", "postgresql_url", "store_url"]


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    yield made
    made.close()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Stand]:
    """Give a stand with jobs for live control."""
    made = Stand(tmp_path, catalogue=CATALOGUE)
    yield made
    made.close()
