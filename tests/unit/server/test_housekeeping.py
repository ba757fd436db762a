"""Versions whose time is up are deleted by the server, whoever else runs."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from artfs.errors import UnavailableError
from artfs.model.access import AuditFilter
from artfs.server.housekeeping import Housekeeping
from artfs.testing.blobworld import BlobWorld

PATIENCE_S = 20.0


def test_a_version_goes_when_it_is_due(blobs: BlobWorld) -> None:
    member = blobs.commit({"f": b"short-lived"})
    kept = blobs.commit({"f": b"kept"}, collection="kept")
    newest = blobs.names.newest_change()
    # Several processes have one each.
    keepings = [Housekeeping(blobs.names, tick_s=0.01) for _ in range(3)]
    for keeping in keepings:
        keeping.start()
    try:
        blobs.catalog.update_version(member.version.id, ttl=timedelta(seconds=1))
        blobs.clock.move(0.001)
        deadline = time.monotonic() + PATIENCE_S
        while blobs.catalog.members(member.collection_id):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        for keeping in keepings:
            keeping.close()
    assert len(blobs.catalog.members(kept.collection_id)) == 1
    (row,) = [row for row in blobs.names.audit(AuditFilter()) if "expire" in row.action]
    assert (row.actor.name, row.entity, row.project) == ("server", "e", "p")
    # Listeners to events hear of it.
    places = [(each.project, each.collection) for each in blobs.names.changes_after(newest).rows]
    assert ("p", "c") in places


def test_old_answers_are_forgotten_now_and_then(
    blobs: BlobWorld, monkeypatch: pytest.MonkeyPatch, expect_log: Callable[..., None]
) -> None:
    expect_log("old answers cannot be forgotten: the database is away", count=1)
    asked: list[float] = []

    def forget() -> int:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise UnavailableError("the database is away")
        return 0

    monkeypatch.setattr(blobs.names, "forget_calls", forget)
    keeping = Housekeeping(blobs.names, tick_s=0.01, forget_s=0.05)
    keeping.start()
    try:
        deadline = time.monotonic() + PATIENCE_S
        while len(asked) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        keeping.close()
    assert all(later - earlier >= 0.05 for earlier, later in itertools.pairwise(asked))
