from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.store.cache import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache", size=1 << 30, floor=0) as made:
        yield made
