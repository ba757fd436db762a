"""The command line and the Python API over real servers with tokens, as people use them."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

import artfs as api
from artfs.errors import ForbiddenError
from artfs.model.access import Grant
from artfs.testing.commandresult import Result
from artfs.testing.mount import Daemon
from artfs.testing.team import ENTITY, Desk, Team
from artfs.testing.waiting import until

from .conftest import Command

Desks = Callable[..., Desk]
Daemons = Callable[..., Daemon]
LARGE = bytes(range(256)) * 12_000


@pytest.fixture
def project(small_team: Team) -> str:
    name = small_team.project()
    small_team.make_project(name)
    return name


@pytest.fixture
def ann(small_team: Team, desks: Desks, project: str) -> Desk:
    """Writes the project."""
    return desks(small_team, small_team.token("ann", **{project: "writer"}))


@pytest.fixture
def root(small_team: Team, desks: Desks) -> Desk:
    """An administrator of the server."""
    return desks(small_team, small_team.token("root", is_admin=True))


@pytest.fixture
def cars(tmp_path: Path) -> Path:
    folder = tmp_path / "cars"
    (folder / "images").mkdir(parents=True)
    (folder / "cars.csv").write_text("name,year\n")
    (folder / "images" / "large").write_bytes(LARGE)
    return folder


# tokens -----------------------------------------------------------------------------------------------------------
def test_logging_in_and_out(small_team: Team, artfs: Command, project: str, cars: Path, tmp_path: Path) -> None:
    """The token is kept in a file for its owner only; all that comes afterwards uses the server, until `artfs logout`."""
    secret = small_team.token("ann", **{project: "writer"})
    done = artfs("login", "--token-stdin", small_team.url(), stdin=secret + "\n")
    assert done.lines == [f"logged in to {small_team.url()} as {_name(small_team, project)}: writer of {ENTITY}/{project}"]
    assert f"`artfs login --entity {ENTITY} {small_team.url()}` makes that {ENTITY}" in done.err
    kept = tmp_path / "tokens.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_text()) == {small_team.url(): secret}
    assert f"there are projects of {ENTITY}" in artfs("ls").err
    assert "--entity NAME, ARTFS_ENTITY or the config file say another" in artfs("log", cars, f"{project}/c", code=13).err
    artfs("login", "--entity", ENTITY, "--token-stdin", small_team.url(), stdin=secret)
    assert artfs("log", cars, f"{project}/c").lines == [
        f"committed {ENTITY}/{project}/c:v0 as latest: 2 files, 2.9 MiB"
    ]
    assert artfs("status", "--json").json["server"]["online"] is True
    done = artfs("logout")
    assert done.lines == [f"logged out of {small_team.url()}"]
    assert f"go on to be of {ENTITY}" in done.err
    assert json.loads(kept.read_text()) == {}
    assert "server" not in (tmp_path / "config.toml").read_text()
    assert artfs("ls", "--json").json == []


def test_a_token_that_is_revoked_or_expired_says_so(
    small_team: Team, artfs: Command, root: Desk, ann: Desk, desks: Desks, project: str
) -> None:
    made = artfs("token", "create", f"short-{project}", "--grant", f"{project}=reader", "--expires", "1s", "--json", desk=root)
    bob = desks(small_team, made.json["secret"])
    until(lambda: bob.artfs("ls", project, check=False).returncode == 13, "it expires")
    assert "expired" in artfs("ls", project, desk=bob, code=13).err
    listed = {token["name"]: token for token in artfs("token", "list", "--json", desk=root).json}
    name = _name(small_team, project)
    assert listed[name]["grants"] == [{"place": f"{ENTITY}/{project}", "role": "writer"}]
    assert artfs("ls", project, desk=ann).code == 0
    artfs("token", "grant", name, project, "reader", desk=root)
    artfs("token", "revoke", name, desk=root)
    until(lambda: ann.artfs("ls", project, check=False).returncode == 13, "it is revoked")
    shown = artfs("status", "--json", desk=ann).json["server"]
    assert shown["online"] is True
    assert "was revoked; `artfs login` keeps a new one" in shown["refused"]
    assert "does not let us in" in artfs("status", desk=ann).out
    assert "does not take the token" in artfs("doctor", desk=ann, code=1).out
    found = artfs("audit", "--json", desk=root).json
    assert {"token.create", "token.grant", "token.revoke"} <= {row["action"] for row in found}


def test_what_is_for_administrators(artfs: Command, root: Desk, ann: Desk, project: str) -> None:
    for words in (["token", "list"], ["audit"], ["gc"], ["quota", project, "1G"], ["token", "create", "x"]):
        assert "is no administrator of this server" in artfs(*words, desk=ann, code=13).err
        assert artfs(*words, "--dry-run" if words == ["gc"] else "--json", desk=root).code == 0
    artfs("token", "revoke", "x", desk=root)


# the cache ----------------------------------------------------------------------------------------------------------
def test_pinning_and_fetching_ahead(artfs: Command, ann: Desk, project: str, cars: Path) -> None:
    artfs("log", cars, f"{project}/c", "--alias", "prod", desk=ann)
    shutil.rmtree(ann.path / "cache")
    assert artfs("prefetch", f"{project}/c:prod/images", "--json", desk=ann).json == [
        {"name": f"{ENTITY}/{project}/c:v0/images", "files": 1, "size": len(LARGE)}
    ]
    assert "no file or folder none in" in artfs("prefetch", f"{project}/c:prod/none", desk=ann, code=3).err
    assert artfs("pin", f"{project}/c:prod", "--json", desk=ann).json == {
        "name": f"{ENTITY}/{project}/c:prod", "version": "v0", "files": 2, "size": len(LARGE) + 10
    }
    (pin,) = artfs("cache", "pins", "--json", desk=ann).json
    assert (pin["server"], pin["name"]) == (ann.url, f"{ENTITY}/{project}/c:prod")
    artfs("cache", "clean", desk=ann)
    held = artfs("cache", "status", "--json", desk=ann).json
    assert held["pinned_size"] >= len(LARGE)
    assert artfs("cache", "verify", "--json", desk=ann).json["damaged"] == []
    assert artfs("unpin", f"{project}/c:prod", "--json", desk=ann).code == 0
    assert "is not pinned" in artfs("unpin", f"{project}/c:prod", desk=ann, code=3).err
    artfs("cache", "clean", desk=ann)
    assert artfs("cache", "status", "--json", desk=ann).json["size"] < len(LARGE)
    assert artfs("get", f"{project}/c:prod", ann.path / "out", desk=ann).code == 0
    assert (ann.path / "out" / "images" / "large").read_bytes() == LARGE


def test_a_command_waits_once_for_a_server_that_is_away(artfs: Command, tmp_path: Path) -> None:
    """`info` makes several calls; after the first has given up, the others are not even tried."""
    away = {"ARTFS_SERVER": "http://127.0.0.1:9", "ARTFS_NETWORK_TIMEOUT_S": "0.5"}
    assert "does not answer" in artfs("log", tmp_path, "p/c", code=11, **away).err
    tried = ["usage", "ls", "token list", "audit", "gc", "pin p/c", "pull p", "login http://127.0.0.1:9"]
    for words in map(str.split, tried):
        done = artfs(*words, code=11, **away)
        assert "127.0.0.1:9 " in done.err, words
        assert done.out == ""


# between catalogs ---------------------------------------------------------------------------------------------------
def history(artfs: Command, desk: Desk, name: str, **environ: str) -> list[tuple[object, ...]]:
    return [
        (
            row["version"], row["aliases"], row["digest"], row["description"], row["tags"], row["metadata"], row["created_at"],
        )
        for row in artfs("ls", name, "--json", desk=desk, **environ).json
    ]


def test_pushed_and_pulled(
    small_team: Team, other_team: Team, artfs: Command, desks: Desks, root: Desk, cars: Path
) -> None:
    """From this machine's own catalog to a server, to another server, and back: histories, aliases and links are the same, and
    only bytes that are not there travel."""
    project = small_team.project()
    own = {"ARTFS_SERVER": "", "ARTFS_TOKEN": "", "ARTFS_ENTITY": "local"}
    alone = desks(small_team, root.token, ARTFS_SERVER="", ARTFS_TOKEN="", ARTFS_ENTITY="local")
    artfs("log", cars, f"{project}/c", "-d", "first", "-t", "raw", "-m", "rows=1", desk=alone)
    (cars / "more").write_bytes(b"1" * 1000)
    artfs("log", cars, f"{project}/c", "--alias", "best", desk=alone)
    (cars / "more").write_bytes(b"2" * 1000)
    artfs("log", cars, f"{project}/c", desk=alone)
    artfs("delete", f"{project}/c:v1", "--delete-aliases", "--yes", desk=alone)
    artfs("alias", f"{project}/c:v2", "best", desk=alone)
    artfs("link", f"{project}/c:v0", f"{project}/approved", "prod", desk=alone)
    expected = history(artfs, alone, f"{project}/c")
    assert [row[0] for row in expected] == ["v0", "v2"]
    there = {"ARTFS_TOKEN": root.token}
    pushed = artfs("push", project, "--to", small_team.url(), "--as", ENTITY, "--json", desk=alone, **there).json
    assert [version["name"] for version in pushed["versions"]] == [f"{ENTITY}/{project}/c:v0", f"{ENTITY}/{project}/c:v2"]
    assert len(LARGE) < pushed["size"] < len(LARGE) + 10_000
    assert history(artfs, root, f"{project}/c") == expected
    assert [row["aliases"] for row in artfs("ls", f"{project}/approved", "--json", desk=root).json] == [["latest", "prod"]]
    (cars / "more").write_bytes(b"3" * 1000)
    artfs("log", cars, f"{project}/c", desk=alone)
    again = artfs("push", f"{project}/c", "--to", small_team.url(), "--as", ENTITY, "--json", desk=alone, **there).json
    assert [version["created"] for version in again["versions"]] == [False, False, True]
    assert 1000 <= again["size"] < 2000
    # Server to server, each with its own token.
    both = desks(small_team, "")
    for team in (small_team, other_team):
        token = root.token if team is small_team else other_team.token("root", is_admin=True)
        artfs("login", "--token-stdin", team.url(), desk=both, stdin=token, **own)
    shown = artfs("push", project, "--from", small_team.url(), "--to", other_team.url(), desk=both, ARTFS_TOKEN="")
    assert shown.lines[-1].startswith(f"moved 3 versions, 1 link to {other_team.url()}: ")
    at_other = {"ARTFS_SERVER": other_team.url(), "ARTFS_TOKEN": ""}
    assert history(artfs, both, f"{project}/c", **at_other) == history(artfs, root, f"{project}/c")
    # And to a catalog of one's own.
    artfs("pull", project, "--as", "local", desk=both, **at_other)
    assert history(artfs, both, f"{project}/c", **own) == history(artfs, alone, f"{project}/c")
    assert artfs("verify", f"{project}/c:best", desk=both, **own).code == 0
    wrong = artfs("pull", f"{ENTITY}/{project}", desk=both, code=3, **{**at_other, "ARTFS_ENTITY": "local"})
    assert f"say {project} --entity {ENTITY}" in wrong.err


# room ---------------------------------------------------------------------------------------------------------------
def test_a_project_has_a_quota(artfs: Command, root: Desk, ann: Desk, make_daemon: Daemons, project: str, cars: Path) -> None:
    """What would be too much is refused, with what to do; nothing is lost, and when there is room it goes on."""
    artfs("log", cars, f"{project}/c", desk=ann)
    used = artfs("usage", project, "--json", desk=ann).json[0]["unique_size"]
    assert artfs("quota", project, str(used + 1000), "--json", desk=root).json["quota"] == used + 1000
    (cars / "more").write_bytes(os.urandom(5000))
    told = artfs("log", cars, f"{project}/c", desk=ann, code=9).err
    assert f"the quota of {ENTITY}/{project} is used up" in told and "`artfs quota`" in told
    daemon = make_daemon(ann).start()
    daemon.expect_log("is used up")
    draft = daemon.mountpoint / "drafts" / project / "d"
    draft.mkdir(parents=True)
    (draft / "more").write_bytes(os.urandom(5000))
    assert "is used up" in artfs("commit", f"{project}/d", desk=ann, code=9).err
    with pytest.raises(OSError, match="Disk quota exceeded"):
        draft.rename(daemon.mountpoint / project / "d")
    assert (draft / "more").stat().st_size == 5000
    artfs("quota", project, "none", desk=root)
    artfs("commit", f"{project}/d", desk=ann)
    assert artfs("quota", project, desk=ann).out.endswith("as much as there is room for\n")


def test_what_is_deleted_is_freed(
    small_team: Team, artfs: Command, root: Desk, ann: Desk, project: str, cars: Path
) -> None:
    artfs("log", cars, f"{project}/c", desk=ann)
    assert "too short: say an hour at least" in artfs("gc", "--grace", "1m", desk=root, code=2).err
    assert "is no admin of" in artfs("delete", "--collection", f"{project}/c", "--yes", desk=ann, code=13).err
    artfs("delete", "--collection", f"{project}/c", "--yes", desk=root)
    assert artfs("gc", "--json", desk=root).json["removed"] == 0  # its readers may be reading
    grow_old(small_team, project)
    assert artfs("gc", "--dry-run", "--json", desk=root).json["removed_size"] > len(LARGE)
    assert artfs("gc", "--json", desk=root).json["removed_size"] > len(LARGE)
    assert artfs("usage", project, "--json", desk=ann).json[0]["unique_size"] == 0


def grow_old(team: Team, project: str) -> None:
    """As if nobody had touched the project's blobs for two days."""
    with team.catalog.database.write() as tx:
        row = team.catalog.try_project(ENTITY, project)
        assert row is not None
        days = 2 * 24 * 3600 * 1_000_000
        tx.conn.execute(text(f"UPDATE project_blobs SET touched_at = touched_at - {days} WHERE project_id = {row.id}"))
        tx.conn.execute(text(f"UPDATE versions SET deleted_at = deleted_at - {days} WHERE deleted_at IS NOT NULL"))


# drafts -------------------------------------------------------------------------------------------------------------
def sweep_the_base(team: Team, artfs: Command, root: Desk, project: str) -> Result:
    artfs("delete", "--collection", f"{project}/c", "--yes", desk=root)
    grow_old(team, project)
    return artfs("gc", desk=root)


def test_a_draft_outlives_its_base(
    small_team: Team, artfs: Command, root: Desk, ann: Desk, make_daemon: Daemons, project: str, cars: Path
) -> None:
    """The version that it began from was deleted and swept on the server; what this machine has of it goes there again."""
    artfs("log", cars, f"{project}/c", desk=ann)
    daemon = make_daemon(ann).start()
    draft = daemon.mountpoint / "drafts" / project / "c:latest"
    draft.mkdir(parents=True)
    (draft / "mine").write_text("mine")
    for path in ("cars.csv", "images/large"):
        (draft / path).read_bytes()
    artfs("prefetch", f"{project}/c", desk=ann)
    sweep_the_base(small_team, artfs, root, project)
    assert artfs("commit", f"{project}/c:latest", "--force", "--json", desk=ann).json["file_count"] == 3
    bob = artfs("get", f"{project}/c", ann.path / "out", desk=root)
    assert bob.code == 0
    assert (ann.path / "out" / "images" / "large").read_bytes() == LARGE
    assert (ann.path / "out" / "mine").read_text() == "mine"


def test_a_draft_whose_base_is_nowhere_says_what_it_lacks(
    small_team: Team, artfs: Command, root: Desk, ann: Desk, make_daemon: Daemons, project: str, cars: Path
) -> None:
    """Nothing is lost of what was written; without the files that are gone, it can be committed."""
    artfs("log", cars, f"{project}/c", desk=root)
    daemon = make_daemon(ann).start()
    draft = daemon.mountpoint / "drafts" / project / "c:latest"
    draft.mkdir(parents=True)
    (draft / "mine").write_text("mine")
    assert sorted(os.listdir(draft / "images")) == ["large"]
    sweep_the_base(small_team, artfs, root, project)
    told = artfs("commit", f"{project}/c:latest", "--force", "--json", desk=ann, code=4).json["error"]
    assert told["kind"] == "draft-invalid"
    assert told["paths"] == ["cars.csv", "images/large"]
    assert "replace or remove them" in told["message"]
    assert (draft / "mine").read_text() == "mine"
    (draft / "cars.csv").unlink()
    (draft / "images" / "large").unlink()
    (draft / "images").rmdir()
    assert artfs("commit", f"{project}/c:latest", "--force", "--json", desk=ann).json["file_count"] == 1
    until(lambda: (daemon.mountpoint / project / "c" / "latest" / "mine").exists(), "it is a version")


# looking ------------------------------------------------------------------------------------------------------------
def test_status_tells_of_the_server_and_of_drafts(
    artfs: Command, ann: Desk, make_daemon: Daemons, project: str, cars: Path
) -> None:
    artfs("log", cars, f"{project}/c", desk=ann)
    daemon = make_daemon(ann).start()
    (daemon.mountpoint / "drafts" / project / "d").mkdir(parents=True)
    (daemon.mountpoint / project / "c" / "latest" / "images" / "large").read_bytes()
    shown = artfs("status", "--json", desk=ann).json
    assert shown["server"]["url"] == ann.url and shown["server"]["latency_s"] > 0 and shown["server"]["refused"] == ""
    (mount,) = shown["mounts"]
    assert mount["daemon"]["server"]["online"] and mount["daemon"]["server"]["events"]
    assert mount["daemon"]["transfers"]["nbytes"] >= len(LARGE)
    assert daemon.status_file()["server"]["url"] == ann.url
    (draft,) = shown["drafts"]
    assert (draft["name"], draft["waits"], draft["problem"]) == ("d", False, None)
    lines = artfs("status", desk=ann).lines
    assert any("online; 2.9 MiB fetched, " in line and "from the cache" in line for line in lines)
    before = daemon.status()["transfers"]
    assert before["reads"] >= before["waited"] >= 1
    artfs("log", cars / "cars.csv", f"{project}/again", desk=ann)  # what is in the cache already
    until((daemon.mountpoint / project / "again" / "v0" / "cars.csv").exists, "it shows")
    artfs("prefetch", f"{project}/again", desk=ann)
    assert (daemon.mountpoint / project / "again" / "v0" / "cars.csv").read_text() == "name,year\n"
    after = daemon.status()["transfers"]
    assert after["reads"] > before["reads"]
    assert after["waited"] == before["waited"]
    (listed,) = artfs("draft", "list", "--json", desk=ann).json
    assert (listed["waits"], listed["problem"]) == (False, None)


def test_lineage_and_links_of_a_server(artfs: Command, ann: Desk, project: str, cars: Path) -> None:
    artfs("log", cars, f"{project}/c", desk=ann)
    assert artfs("link", f"{project}/c:v0", f"{project}/approved", "prod", desk=ann).lines == [
        f"{ENTITY}/{project}/approved:v0: latest, prod"
    ]
    assert f"{project}/c:v0" in artfs("lineage", f"{project}/c", desk=ann).out
    assert artfs("info", f"{project}/approved:prod", "--json", desk=ann).json["memberships"][0]["name"].endswith("/c:v0")
    assert "is no admin of" in artfs("delete", f"{project}/c:v0", "--delete-aliases", "--yes", desk=ann, code=13).err
    artfs("delete", f"{project}/approved:v0", "--yes", desk=ann)
    assert artfs("ls", f"{project}/approved", "--json", desk=ann).json == []
    assert artfs("ls", f"{project}/c", "--json", desk=ann).json[0]["version"] == "v0"


# the Python API -------------------------------------------------------------------------------------------------------
def test_a_script_over_a_server(
    small_team: Team, ann: Desk, project: str, cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log, use, change, download, link: as over the catalog of one's own; files of any size, in drafts and in copies of them."""
    for name, value in ann.environ.items():
        if name.startswith("ARTFS_"):
            monkeypatch.setenv(name, value)
    with api.init(project=project) as run:
        first = api.Artifact("model", "model", metadata={"epochs": 1})
        first.add_dir(str(cars))
        first.add_file(str(cars / "images" / "large"), name="again")
        with first.new_file("log.txt") as file:
            file.write("begun\n")
        run.log_artifact(first, aliases=["prod"]).wait()
        assert first.qualified_name == f"{ENTITY}/{project}/model:v0"
        used = run.use_artifact("model:prod")
        assert Path(used.download(str(tmp_path / "out")), "images", "large").read_bytes() == LARGE
        draft = used.new_draft()
        (tmp_path / "other").write_bytes(LARGE[::-1])
        draft.add_file(str(tmp_path / "other"))
        draft.remove("again")
        run.log_artifact(draft).wait()
        assert sorted(draft.manifest.entries) == ["cars.csv", "images/large", "log.txt", "other"]
        used.aliases.append("kept")
        used.metadata["rows"] = 2
        used.save()
        table = api.Artifact("table", "dataset")
        table.add(api.Table(columns=["a"], data=[[1], [2]]), "t")
        run.log_artifact(table).wait()
        assert run.use_artifact("table:latest").get("t").data == [[1], [2]]
        with pytest.raises(ForbiddenError, match=f"is no admin of {ENTITY}/{project}"):
            used.delete(delete_aliases=True)
    found = api.Api().artifact(f"{ENTITY}/{project}/model:kept")
    assert found.metadata == {"epochs": 1, "rows": 2}
    assert [each.name for each in api.Api().artifacts("model", f"{ENTITY}/{project}/model")] == ["model:v1", "model:v0"]


def _name(team: Team, project: str) -> str:
    """Of the token that writes the project."""
    return next(token.name for token in team.ledger.tokens() if Grant(ENTITY, project, "writer") in token.grants)
