"""How long a version lives, as an Artifact says and sets it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

import artfs
from artfs.api.artifact import Artifact
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.errors import ArtifactNotLoggedError, ConflictError

INHERIT = artfs.ArtifactTTL.INHERIT
DAY = timedelta(days=1)


def test_of_a_draft(session: Session) -> None:
    artifact = Artifact("a", "t")
    with pytest.raises(ArtifactNotLoggedError, match="'ttl'"):
        artifact.ttl  # noqa: B018
    artifact.ttl = DAY
    assert artifact.ttl == DAY
    artifact.ttl = None
    assert artifact.ttl is None
    artifact.ttl = INHERIT
    with pytest.raises(ArtifactNotLoggedError):
        artifact.ttl  # noqa: B018


@pytest.mark.parametrize("logged", [False, True])
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (timedelta(0), ValueError),
        (timedelta(seconds=-1), ValueError),
        (timedelta(milliseconds=999), ValueError),
        (timedelta(days=40_000), ValueError),
        (3600, TypeError),
        ("1d", TypeError),
    ],
)
def test_bad(session: Session, bad: Any, error: type[Exception], logged: bool) -> None:
    artifact = Artifact("a", "t")
    if logged:
        artifact.save()
    artifact.ttl = DAY
    with pytest.raises(error):
        artifact.ttl = bad
    assert artifact.ttl == DAY


@pytest.mark.parametrize(
    ("given", "kept"),
    [(DAY, DAY), (None, None), (INHERIT, 7 * DAY), (timedelta(seconds=1.9), timedelta(seconds=1))],
)
def test_logged_with_the_draft(session: Session, given: Any, kept: timedelta | None) -> None:
    session.catalog.set_default_ttl("local", None, 7 * DAY)
    artifact = Artifact("a", "t")
    artifact.ttl = given
    artifact.save()
    assert artifact.ttl == Api().artifact("a").ttl == kept


@pytest.mark.parametrize(("given", "kept"), [(DAY, DAY), (None, None), (INHERIT, 7 * DAY)])
def test_changed_later(session: Session, log_files: Any, given: Any, kept: timedelta | None) -> None:
    session.catalog.set_default_ttl("local", "uncategorized", 7 * DAY)
    artifact = log_files("ds", {"f": "1"})
    assert artifact.ttl == 7 * DAY
    artifact.ttl = 3 * DAY
    artifact.save()
    artifact.ttl = given
    assert artifact.ttl == kept
    assert Api().artifact("ds").ttl == 3 * DAY
    artifact.save()
    assert artifact.ttl == Api().artifact("ds").ttl == kept


def test_nothing_expires_without_a_policy(session: Session, log_files: Any) -> None:
    assert log_files("ds", {"f": "1"}).ttl is None


def test_of_a_link(session: Session, log_files: Any) -> None:
    source = log_files("ds", {"f": "1"})
    link = source.link("best")
    with pytest.raises(ConflictError, match="source_artifact"):
        link.ttl = DAY
    source.ttl = DAY
    source.save()
    assert Api().artifact("best").ttl == DAY
    link.save()
    assert Api().artifact("ds").ttl == DAY


def test_not_of_the_draft_of_a_version(session: Session, log_files: Any) -> None:
    source = log_files("ds", {"f": "1"})
    source.ttl = DAY
    source.save()
    draft = source.new_draft()
    with pytest.raises(ArtifactNotLoggedError):
        draft.ttl  # noqa: B018


def test_counts_from_the_commit(session: Session, log_files: Any) -> None:
    artifact = log_files("ds", {"f": "1"})
    artifact.ttl = 2 * DAY
    artifact.save()
    assert session.catalog.next_expiry() == datetime.fromisoformat(artifact.created_at) + 2 * DAY
