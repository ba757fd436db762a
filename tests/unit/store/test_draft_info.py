"""What a draft is, in its draft.json: changed by several threads, each change on top of the others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from artfs.model.draft import DraftInfo
from artfs.store.staging import DraftArea


def test_changes_by_threads_are_all_there(tmp_path: Path) -> None:
    area = DraftArea(tmp_path)
    draft = area.create(DraftInfo("local", "p", "c", "c", "2026-11-28T00:00:00+00:00"))

    def tag(name: str) -> None:
        draft.change_info(lambda info: msgspec.structs.replace(info, tags=(*info.tags, name)))

    names = [f"tag-{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tag, names))
    again = area.try_draft("local", "p", "c")
    assert again is not None
    assert sorted(again.info.tags) == sorted(draft.info.tags) == sorted(names)


def test_a_change_that_is_refused_changes_nothing(tmp_path: Path) -> None:
    area = DraftArea(tmp_path)
    draft = area.create(DraftInfo("local", "p", "c", "c", "2026-11-28T00:00:00+00:00", tags=("kept",)))

    def refuse(info: DraftInfo) -> DraftInfo:
        raise ValueError(info.name)

    with pytest.raises(ValueError, match="c"):
        draft.change_info(refuse)
    draft.change_info(lambda info: msgspec.structs.replace(info, description="said"))
    assert (draft.info.tags, draft.info.description) == (("kept",), "said")
