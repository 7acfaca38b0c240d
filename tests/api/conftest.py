from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.stand import Stand


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    yield made
    made.close()
