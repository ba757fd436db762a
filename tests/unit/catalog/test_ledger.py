"""Tokens, who may read what, and the audit log, in each kind of database."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.ledger import schema as tables
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.errors import (
    AliasInUseError,
    ConflictError,
    InvalidArgumentError,
    InvalidNameError,
    NotFoundError,
    UnauthorizedError,
)
from artfs.model.access import (
    COMMAND_LINE,
    EVERY_PROJECT,
    SERVER,
    Actor,
    AuditFilter,
    Grant,
    is_enough,
    new_secret,
)
from artfs.model.records import HistoryRow, NewPart
from artfs.testing.catalog_contract.making import C, E, P, digest, log, new

ALICE = Actor("alice", None)
LATER = datetime.now(UTC) + timedelta(days=1)


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def catalog(any_catalog: SqlCatalog) -> SqlCatalog:
    return any_catalog


# tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_is_found_by_its_secret_only(ledger: SqlLedger) -> None:
    token, secret = ledger.create_token("alice", grants=[Grant(E, P, "writer")], expires_at=LATER, by=COMMAND_LINE)
    other, others_secret = ledger.create_token("bob", is_admin=True, by=COMMAND_LINE)
    assert re.fullmatch("artfs_[A-Za-z0-9_-]{43}", secret)
    assert secret != others_secret
    assert ledger.authenticate(secret) == token == ledger.token("alice")
    assert ledger.authenticate(others_secret) == other
    assert (token.name, token.is_admin, token.grants) == ("alice", False, (Grant(E, P, "writer"),))
    assert (token.expires_at, token.revoked_at, token.used_at) == (LATER, None, None)
    assert (other.is_admin, other.grants, other.expires_at) == (True, (), None)
    assert ledger.tokens() == [token, other]
    for wrong in (secret[:-1], secret + "A", secret.swapcase(), new_secret(), "", "artfs_", "é", "\udcff", "\0", "x" * 10**6):
        with pytest.raises(UnauthorizedError, match="does not know this token"):
            ledger.authenticate(wrong)


def test_the_secret_is_kept_nowhere(catalog: SqlCatalog, ledger: SqlLedger) -> None:
    _, secret = ledger.create_token("alice", grants=[Grant(E, P, "writer")], by=COMMAND_LINE)
    with catalog.database.read() as conn:
        for table in tables.metadata.sorted_tables:
            for row in conn.execute(select(table)):
                assert secret.removeprefix("artfs_") not in repr(tuple(row))


def test_a_revoked_or_expired_token_opens_nothing(catalog: SqlCatalog, ledger: SqlLedger) -> None:
    _, secret = ledger.create_token("alice", by=COMMAND_LINE)
    gone = ledger.revoke_token("alice", by=COMMAND_LINE)
    assert gone.revoked_at is not None
    with pytest.raises(UnauthorizedError, match="'alice' was revoked"):
        ledger.authenticate(secret)
    assert ledger.tokens() == []
    assert ledger.tokens(revoked=True) == [gone]
    with pytest.raises(NotFoundError, match="no token 'alice'; there is none"):
        ledger.revoke_token("alice", by=COMMAND_LINE)
    again, secret = ledger.create_token("alice", expires_at=LATER, by=COMMAND_LINE)
    assert again.id != gone.id
    assert ledger.authenticate(secret).id == again.id
    with catalog.database.write() as tx:
        tx.conn.exec_driver_sql("UPDATE tokens SET expires_at = created_at")
    with pytest.raises(UnauthorizedError, match="'alice' expired at"):
        ledger.authenticate(secret)


def test_what_is_no_token_is_refused(ledger: SqlLedger) -> None:
    ledger.create_token("alice", by=COMMAND_LINE)
    before = len(ledger.audit())
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"name": "alice"}, ConflictError),
        ({"name": ""}, InvalidNameError),
        ({"name": " x"}, InvalidNameError),
        ({"name": "a\nb"}, InvalidNameError),
        ({"name": "x" * 129}, InvalidNameError),
        ({"grants": [Grant("a/b", P, "reader")]}, InvalidNameError),
        ({"grants": [Grant(E, "a/b", "reader")]}, InvalidNameError),
        ({"grants": [Grant(E, P, "owner")]}, InvalidArgumentError),  # type: ignore[arg-type]
        ({"grants": [Grant(E, P, "reader"), Grant(E, P, "writer")]}, InvalidArgumentError),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, InvalidArgumentError),
    ]
    for given, error in wrong:
        with pytest.raises(error):
            ledger.create_token(**{"name": "bob", **given}, by=COMMAND_LINE)
    assert [token.name for token in ledger.tokens()] == ["alice"]
    assert len(ledger.audit()) == before


def test_grants_are_given_replaced_and_taken_back(ledger: SqlLedger) -> None:
    ledger.create_token("alice", by=COMMAND_LINE)
    assert ledger.grant("alice", Grant(E, P, "reader"), by=ALICE).grants == (Grant(E, P, "reader"),)
    assert ledger.grant("alice", Grant(E, P, "writer"), by=ALICE).grants == (Grant(E, P, "writer"),)
    both = ledger.grant("alice", Grant(E, EVERY_PROJECT, "reader"), by=ALICE)
    assert both.grants == (Grant(E, EVERY_PROJECT, "reader"), Grant(E, P, "writer"))
    written = len(ledger.audit())
    assert ledger.grant("alice", Grant(E, P, "writer"), by=ALICE) == both
    assert len(ledger.audit()) == written
    assert ledger.withdraw("alice", E, P, by=ALICE).grants == (Grant(E, EVERY_PROJECT, "reader"),)
    with pytest.raises(NotFoundError, match="granted nothing"):
        ledger.withdraw("alice", E, P, by=ALICE)
    for name in ("nobody", "\udcff", "\0"):
        with pytest.raises(NotFoundError, match="no token .*; there are alice"):
            ledger.grant(name, Grant(E, P, "reader"), by=ALICE)


def test_the_last_use_is_noted_once_a_minute(catalog: SqlCatalog) -> None:
    clock = Seconds()
    ledger = SqlLedger(catalog.database, clock=clock)
    token, _ = ledger.create_token("alice", by=COMMAND_LINE)
    stamps = []
    for clock.now in (0, 59.9, 60, 119.9, 120):
        ledger.note_use(token)
        stamps.append(ledger.token("alice").used_at)
    assert stamps[0] is not None
    assert stamps[0] == stamps[1] < stamps[2] == stamps[3] < stamps[4]  # type: ignore[operator]


# roles ------------------------------------------------------------------------------------------------------------


def test_the_strongest_grant_counts(ledger: SqlLedger) -> None:
    grants = [Grant(E, P, "reader"), Grant(E, EVERY_PROJECT, "writer"), Grant("team", "one", "admin")]
    token, _ = ledger.create_token("alice", grants=grants, by=COMMAND_LINE)
    admin, _ = ledger.create_token("root", is_admin=True, by=COMMAND_LINE)
    places = [(E, P), (E, "other"), ("team", "one"), ("team", "two"), ("nobody", P)]
    assert [token.role_in(*place) for place in places] == ["writer", "writer", "admin", None, None]
    assert [admin.role_in(*place) for place in places] == ["admin"] * 5
    assert [token.role_in_all_of(entity) for entity in (E, "team", "nobody")] == ["writer", None, None]
    assert [token.sees_entity(entity) for entity in (E, "team", "nobody")] == [True, True, False]
    assert (token.may("writer", E, P), token.may("admin", E, P), token.may("reader", "team", "two")) == (True, False, False)
    assert [is_enough("writer", role) for role in ("reader", "writer", "admin")] == [True, True, False]
    assert not is_enough(None, "reader")


def test_what_a_token_may_read(catalog: SqlCatalog, ledger: SqlLedger) -> None:
    for entity, name in (("b", "two"), ("b", "one"), ("a", "one"), ("a", "gone"), ("c", "one")):
        catalog.create_project(entity, name)
    catalog.delete_project("a", "gone")
    some, _ = ledger.create_token("some", grants=[Grant("a", EVERY_PROJECT, "reader"), Grant("b", "two", "admin")], by=ALICE)
    every, _ = ledger.create_token("every", is_admin=True, by=ALICE)
    none, _ = ledger.create_token("none", by=ALICE)

    def readable(token: Any) -> list[str]:
        return [f"{project.entity}/{project.name}" for project in ledger.readable_projects(token)]

    assert readable(some) == ["a/one", "b/two"]
    assert readable(every) == ["a/one", "b/one", "b/two", "c/one"]
    assert readable(none) == []


def test_where_things_belong(catalog: SqlCatalog, ledger: SqlLedger) -> None:
    member = log(catalog, 1)
    link = catalog.link(member.version.id, E, "registry", "prod")
    catalog.link(member.version.id, E, "registry", "more")
    run = catalog.create_run(E, "runs")
    vision, registry = catalog.try_project(E, P), catalog.try_project(E, "registry")
    assert ledger.project_of_collection(member.collection_id) == vision
    assert ledger.project_of_collection(link.collection_id) == registry
    assert ledger.project_of_member(member.id) == vision
    assert ledger.project_of_member(link.id) == registry
    assert ledger.projects_of_version(member.version.id) == [vision, registry]
    assert ledger.project_of_run(run.id) == catalog.try_project(E, "runs")
    catalog.delete_version(member.id, delete_aliases=True)
    assert ledger.project_of_member(member.id) == vision
    assert ledger.projects_of_version(member.version.id) == [vision]
    catalog.delete_collection(member.collection_id)
    for unknown in (member.collection_id, 10**6):
        assert ledger.project_of_collection(unknown) is None
    assert (ledger.project_of_member(10**6), ledger.projects_of_version(10**6)) == (None, [])
    for name in ("nobody", "\0", "\udcff"):
        assert ledger.project_of_run(name) is None


# the audit log ----------------------------------------------------------------------------------------------------


class Rows:
    """`rows(act)`: (action, project, target, detail) of what was written since, oldest first."""

    def __init__(self, ledger: SqlLedger) -> None:
        self.ledger = ledger
        self.seen = 0

    def __call__(self, act: Callable[[], Any]) -> list[tuple[str, str | None, str, dict[str, Any]]]:
        act()
        found = [row for row in reversed(self.ledger.audit(limit=1000)) if row.id > self.seen]
        self.seen = max([self.seen, *(row.id for row in found)])
        assert all((row.entity, row.actor.name) == (E, "alice") for row in found)
        return [(row.action, row.project, row.target, row.detail) for row in found]


def test_every_change_leaves_a_row(catalog: SqlCatalog, ledger: SqlLedger) -> None:
    did = Rows(ledger)
    acting = ledger.acting(ALICE)
    assert did(lambda: log(acting, 1, aliases=("best",), tags=("t",))) == [
        ("create_project", P, P, {}),
        ("create_collection", P, C, {"type": "dataset", "kind": "sequence"}),
        ("commit", P, f"{C}:v0", {"digest": digest(1), "aliases": ["best"], "tags": ["t"]}),
    ]
    assert did(lambda: acting.commit(new(1))) == []
    assert did(lambda: acting.commit(new(1, tags=("u",), aliases=("good",)))) == [
        ("set_aliases", P, f"{C}:v0", {"add": ["good"], "remove": []}),
        ("update_version", P, f"{C}:v0", {"changed": ["tags"]}),
    ]
    member = catalog.resolve(E, P, C, "latest")
    assert did(lambda: acting.set_aliases(member.id, add=["x"], remove=["best", "no"])) == [
        ("set_aliases", P, f"{C}:v0", {"add": ["x"], "remove": ["best"]}),
    ]
    assert did(lambda: acting.update_version(member.version.id, description="d", metadata={"a": 1}, add_tags=["v"])) == [
        ("update_version", P, f"{C}:v0", {"changed": ["description", "metadata", "tags"]}),
    ]
    assert did(lambda: acting.link(member.version.id, E, "registry", "prod", ["live"])) == [
        ("create_project", "registry", "registry", {}),
        ("create_collection", "registry", "prod", {"type": "dataset", "kind": "portfolio"}),
        ("link", "registry", "prod:v0", {"source": member.qualified_name, "aliases": ["live"]}),
    ]
    link = catalog.resolve(E, "registry", "prod", "live")
    assert did(lambda: acting.unlink(link.id)) == [("unlink", "registry", "prod:v0", {"aliases": ["latest", "live"]})]
    assert did(lambda: acting.update_collection(member.collection_id, name="lorries", tags=["t"])) == [
        ("update_collection", P, C, {"name": "lorries", "tags": ["t"]}),
    ]
    assert did(lambda: acting.protect_aliases(E, P, add=["live"])) == [("protect_aliases", P, P, {"add": ["live"], "remove": []})]
    assert did(lambda: acting.set_default_ttl(E, P, timedelta(days=1))) == [("set_default_ttl", P, P, {"ttl_s": 86400})]
    assert did(lambda: acting.set_default_ttl(E, None, timedelta(days=1))) == [("set_default_ttl", None, E, {"ttl_s": 86400})]
    with catalog.database.write() as tx:
        tx.conn.exec_driver_sql("UPDATE versions SET created_at = 1")
    assert did(acting.expire) == [("expire", P, "lorries:v0", {})]
    second = log(catalog, 2, "lorries")
    assert did(lambda: acting.delete_version(second.id, delete_aliases=True)) == [
        ("delete_version", P, "lorries:v1", {"aliases": ["latest"]}),
    ]
    assert did(lambda: acting.delete_collection(member.collection_id)) == [("delete_collection", P, "lorries", {})]
    assert did(lambda: acting.delete_project(E, P)) == [("delete_project", P, P, {})]


def test_runs_leave_rows_but_not_what_they_log(catalog: SqlCatalog, ledger: SqlLedger) -> None:
    did = Rows(ledger)
    acting = ledger.acting(ALICE)
    member = log(catalog, 1)
    [(action, project, run_id, detail)] = did(lambda: acting.create_run(E, P, name="train"))
    assert (action, project, detail) == ("create_run", P, {"name": "train", "job_type": None})
    assert did(lambda: acting.record_use(run_id, member.version.id)) == [
        ("record_use", P, run_id, {"version": member.qualified_name}),
    ]
    assert did(lambda: acting.record_use(run_id, member.version.id)) == []
    assert did(lambda: acting.record_log(run_id, member.version.id)) == [
        ("record_log", P, run_id, {"version": member.qualified_name}),
    ]
    row = HistoryRow(step=0, at=member.created_at, values={"loss": 1})
    assert did(lambda: acting.add_history(run_id, [row])) == []
    assert did(lambda: acting.update_run(run_id, summary={"a": 1})) == []
    assert did(lambda: acting.update_run(run_id, state="finished", notes="n", name="train")) == [
        ("update_run", P, run_id, {"changed": ["notes", "state"], "state": "finished"}),
    ]


def test_parts_of_versions_leave_rows(catalog: SqlCatalog, ledger: SqlLedger) -> None:
    did = Rows(ledger)
    acting = ledger.acting(ALICE)
    log(catalog, 1)
    part = NewPart(entity=E, project=P, collection=C, type="dataset", distributed_id="d", digest=digest(2))
    assert did(lambda: acting.add_part(part)) == [("add_part", P, C, {"digest": digest(2), "distributed_id": "d"})]


def test_what_failed_leaves_no_row(catalog: SqlCatalog, ledger: SqlLedger) -> None:
    acting = ledger.acting(ALICE)
    member = log(catalog, 1)
    with pytest.raises(AliasInUseError):
        acting.delete_version(member.id)
    with pytest.raises(NotFoundError):
        acting.commit(new(2, project="fresh", run_id="nobody"))
    assert ledger.audit() == []
    assert catalog.try_project(E, "fresh") is None


def test_what_is_done_without_an_actor_leaves_no_row(catalog: SqlCatalog, ledger: SqlLedger) -> None:
    log(catalog, 1)
    assert ledger.audit() == []


def test_tokens_leave_rows_without_their_secrets(ledger: SqlLedger) -> None:
    _, secret = ledger.create_token("alice", grants=[Grant(E, P, "writer")], expires_at=LATER, by=COMMAND_LINE)
    ledger.grant("alice", Grant("team", EVERY_PROJECT, "reader"), by=SERVER)
    ledger.withdraw("alice", E, P, by=SERVER)
    ledger.revoke_token("alice", by=COMMAND_LINE)
    found = ledger.audit()
    assert [(row.actor, row.action, row.entity, row.project, row.target) for row in found] == [
        (COMMAND_LINE, "token.revoke", None, None, "alice"),
        (SERVER, "token.withdraw", E, P, "alice"),
        (SERVER, "token.grant", "team", EVERY_PROJECT, "alice"),
        (COMMAND_LINE, "token.create", None, None, "alice"),
    ]
    assert found[-1].detail == {"is_admin": False, "grants": [[E, P, "writer"]], "expires_at": LATER.isoformat()}
    assert secret not in json.dumps([row.detail for row in found])


def test_the_log_is_read_by_pages_and_filters(ledger: SqlLedger) -> None:
    token, _ = ledger.create_token("alice", by=COMMAND_LINE)
    alice = Actor(token.name, token.id)
    for number in range(5):
        ledger.record(alice, "gc", entity=E, project=f"p{number % 2}", target=f"t{number}", detail={"n": number})
    ledger.record(SERVER, "gc")
    everything = ledger.audit()
    assert [row.id for row in everything] == sorted((row.id for row in everything), reverse=True)
    pages = [ledger.audit(limit=3)]
    while pages[-1]:
        pages.append(ledger.audit(before=pages[-1][-1].id, limit=3))
    assert [row for page in pages for row in page] == everything

    def targets(**which: Any) -> list[str]:
        return [row.target for row in ledger.audit(AuditFilter(**which))]

    assert targets(actor="alice") == ["t4", "t3", "t2", "t1", "t0"]
    assert targets(actor="alice", project="p1") == ["t3", "t1"]
    assert targets(entity=E, action="gc", project="p0") == ["t4", "t2", "t0"]
    assert targets(action="token.create") == ["alice"]
    third = everything[3]
    assert (third.target, third.actor, third.detail) == ("t2", alice, {"n": 2})
    assert targets(since=third.at, actor="alice")[-1] == "t2"
    assert targets(until=third.at, actor="alice")[0] == "t1"
