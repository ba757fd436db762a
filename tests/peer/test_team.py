"""People with workstations of their own, and two servers over one database and one bucket: who sees what, and who does not."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import resource
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from artfs.client import upload
from artfs.client.catalog import RemoteCatalog
from artfs.client.store import RemoteStore
from artfs.errors import ArtfsError, BlobMissingError
from artfs.model.access import COMMAND_LINE
from artfs.model.entry import FileEntry
from artfs.model.pages import BuiltTree, build_tree
from artfs.model.records import NewVersion
from artfs.testing.mount import Daemon
from artfs.testing.sending import logged, sent
from artfs.testing.team import ENTITY, Desk, Team
from artfs.testing.waiting import until
from artfs.transfer.progress import sync
from artfs.wire.blobroutes import BEGIN_UPLOAD, LOCATE_BLOBS, MISSING_BLOBS, READ_BLOBS, READ_TREES
from artfs.wire.bodies import EventData
from artfs.wire.control import Progress
from artfs.wire.messages import BlobList, LocateRequest, TreesRequest, Upload, UploadRequest
from artfs.wire.routes import JSON, ROUTES, Route, by_name

from .conftest import Command

Desks = Callable[..., Desk]
Daemons = Callable[..., Daemon]
LARGE = bytes(range(256)) * 12_000  # some blocks


# two people -------------------------------------------------------------------------------------------------------
def test_what_one_commits_another_reads(large_team: Team, desks: Desks, make_daemon: Daemons, artfs: Command) -> None:
    """Ann's server is one, Bob's the other. Bob looks at the folder all the while."""
    project = large_team.project()
    large_team.make_project(project)
    ann = desks(large_team, large_team.token("ann", **{project: "writer"}), 0)
    bob = desks(large_team, large_team.token("bob", **{project: "reader"}), 1)
    hers, his = make_daemon(ann).start(), make_daemon(bob).start()
    assert {path.name for path in his.mountpoint.iterdir()} == {"drafts", project}
    assert list((his.mountpoint / project).iterdir()) == []
    draft = hers.mountpoint / "drafts" / project / "cars"
    draft.mkdir(parents=True)
    (draft / "large").write_bytes(LARGE)
    (draft / "small").write_text("one")
    assert artfs("commit", f"{project}/cars", "--alias", "best", "--json", desk=ann).json["version"] == "v0"
    cars = his.mountpoint / project / "cars"
    until((cars / "best" / "large").exists, "it is seen")
    assert (cars / "best" / "large").read_bytes() == LARGE
    again = hers.mountpoint / "drafts" / project / "cars:latest"
    again.mkdir()
    (again / "small").write_text("two")
    artfs("commit", f"{project}/cars:latest", desk=ann)
    until(lambda: (cars / "latest" / "small").read_text() == "two", "the new version is seen")
    assert (cars / "best" / "small").read_text() == "one"
    artfs("alias", f"{project}/cars:v1", "best", desk=ann)
    until(lambda: (cars / "best" / "small").read_text() == "two", "the alias moves")
    artfs("alias", f"{project}/cars:v1", "--remove", "best", desk=ann)
    until(lambda: not (cars / "best").exists(), "the alias goes")


def test_who_may_only_read_is_told_so(large_team: Team, desks: Desks, make_daemon: Daemons, artfs: Command) -> None:
    """EACCES through the mount, exit code 13 elsewhere; the draft stays."""
    project = large_team.project()
    large_team.make_project(project)
    bob = desks(large_team, large_team.token("bob", **{project: "reader"}))
    daemon = make_daemon(bob).start()
    daemon.expect_log("is no writer of")
    draft = daemon.mountpoint / "drafts" / project / "cars"
    draft.mkdir(parents=True)
    (draft / "file").write_text("his")
    with pytest.raises(PermissionError) as told:
        draft.rename(daemon.mountpoint / project / "cars")
    assert told.value.errno == errno.EACCES
    with pytest.raises(PermissionError):
        (daemon.mountpoint / project / "bikes").mkdir()
    told_too = artfs("commit", f"{project}/cars", desk=bob, code=13).err
    assert f"is no writer of {ENTITY}/{project}" in told_too and f"{ENTITY}/{project} writer`" in told_too
    assert (draft / "file").read_text() == "his"


@pytest.mark.parametrize("how", ["revoked", "withdrawn"])
def test_a_role_that_is_taken_away_ends_reading(large_team: Team, desks: Desks, make_daemon: Daemons, how: str) -> None:
    """What was read before may be in the cache of that machine. What was not, cannot be read any more."""
    project = large_team.project()
    with large_team.client(large_team.token("root", is_admin=True)) as root:
        logged(root, 1, ENTITY, project)
    bob = desks(large_team, large_team.token("bob", **{project: "reader"}), 1)
    daemon = make_daemon(bob).start()
    (place,) = (daemon.mountpoint / project / "cars" / "latest").iterdir()
    assert place.stat().st_size
    name = next(each.name for each in large_team.ledger.tokens() if [grant.project for grant in each.grants] == [project])
    daemon.expect_log("was revoked|has no role|cannot be read")
    if how == "revoked":
        large_team.ledger.revoke_token(name, by=COMMAND_LINE)
    else:
        large_team.ledger.withdraw(name, ENTITY, project, by=COMMAND_LINE)
    until(lambda: bob.artfs("info", f"{project}/cars", check=False).returncode == 13, "it counts")
    with pytest.raises(OSError) as told:
        place.read_bytes()
    assert told.value.errno == errno.EACCES


def test_a_project_in_which_one_has_no_role_is_refused(large_team: Team, desks: Desks, make_daemon: Daemons) -> None:
    """Whether there is one of that name or not."""
    own, others = large_team.project(), large_team.project()
    with large_team.client(large_team.token("root", is_admin=True)) as root:
        for project in (own, others):
            logged(root, 1, ENTITY, project)
    bob = desks(large_team, large_team.token("bob", **{own: "reader"}))
    daemon = make_daemon(bob).start()
    assert own in os.listdir(daemon.mountpoint)
    assert others not in os.listdir(daemon.mountpoint)
    for place in (others, f"{others}/cars/latest/f", "nobody-has-this"):
        with pytest.raises(PermissionError):
            os.stat(daemon.mountpoint / place)
    assert not os.path.exists(daemon.mountpoint / own / "nothing")


# knowing a digest ---------------------------------------------------------------------------------------------------
def test_a_digest_opens_nothing_over_the_network(large_team: Team, tmp_path: Path) -> None:
    """Eve has a project of her own and knows the digests of Ann's blobs. Whatever she asks, sends or commits is answered as for
    digests that nobody has: she may send the bytes, if she has them."""
    hers, own = large_team.project(), large_team.project()
    small, large = b"ann's secret", LARGE + b"ann's"
    (tmp_path / "large").write_bytes(large)
    with large_team.client(large_team.token("ann", is_admin=True)) as ann:
        ann.create_project(ENTITY, own)
        with RemoteStore(ann.http).begin((ENTITY, hers)) as batch:
            batch.put_bytes(small)
            content = batch.put_file(tmp_path / "large")
            tree = _tree(small, large, content.blocks)
            for _, page in tree.pages:
                batch.put_page(page)
            batch.sync()
        ann.commit(_version(tree, hers))
        real = [hashlib.sha256(small).hexdigest(), content.digest, content.blocks, tree.digest]
        for digest in real:  # to her, the answers differ
            assert any(try_it(digest) != try_it("0" * 64) for try_it in _attempts(ann, hers, digest))
    token = large_team.token("eve", **{own: "writer"})
    for server in (0, 1):
        with large_team.client(token, server) as eve:
            for number, digest in enumerate(real):
                nobodys = hashlib.sha256(f"nobody's {server}.{number}".encode()).hexdigest()
                for project in (own, hers):
                    for try_it in _attempts(eve, project, digest):
                        assert try_it(digest) == try_it(nobodys)
    with large_team.client(token) as eve, RemoteStore(eve.http).begin((ENTITY, own)) as batch:
        assert batch.lacks(real) == set(real)
        loot = _tree(small, large, content.blocks, name=b"loot")
        for _, page in loot.pages:
            batch.put_page(page)
        batch.sync()
        with pytest.raises(BlobMissingError) as told:
            eve.commit(_version(loot, own))
        assert {*told.value.digests} == {*real[:3]}
        store = RemoteStore(eve.http)
        assert [store.try_size(digest) for digest in real] == [None] * 4
        for digest in real:
            with pytest.raises(BlobMissingError):
                store.read(digest)


def _attempts(eve: RemoteCatalog, project: str, real: str) -> Iterator[Callable[[str], object]]:
    """Calls about a digest, which return all that is answered, without the digest itself."""
    where = {"entity": ENTITY, "project": project}

    def attempt(route: Route, make: Callable[[str], Any], arguments: dict[str, str]) -> Callable[[str], object]:
        def try_it(digest: str) -> object:
            content = msgspec.json.encode(make(digest))
            try:
                answer = eve.http.exchange(route, arguments, content=content, headers={"Content-Type": JSON})
            except ArtfsError as error:
                return error.kind, str(error).replace(digest, "DIGEST"), len(getattr(error, "digests", ()))
            if route is BEGIN_UPLOAD:
                upload = msgspec.json.decode(answer.content, type=Upload)
                return bool(upload.id), upload.part_size, upload.checks, [part.number for part in upload.parts], upload.done
            return answer.status_code, answer.content.replace(digest.encode(), b"DIGEST")

        return try_it

    for number in range(2):
        yield attempt((READ_BLOBS, READ_TREES)[number], (_list_of, TreesRequest)[number], {})
    yield attempt(LOCATE_BLOBS, lambda digest: LocateRequest([digest], [digest]), {})
    yield attempt(MISSING_BLOBS, _list_of, where)
    yield attempt(BEGIN_UPLOAD, lambda digest: UploadRequest(digest, len(LARGE)), where)
    commit = by_name(ROUTES)["commit"]
    assert commit.body is not None
    yield attempt(commit, lambda digest: NewVersion(ENTITY, project, "cars", "dataset", digest, 1, 1), {})


def _list_of(digest: str) -> BlobList:
    return BlobList([digest])


def _tree(small: bytes, large: bytes, blocks: str, name: bytes = b"small") -> BuiltTree:
    return build_tree([
        FileEntry(b"large", len(large), hashlib.sha256(large).digest(), bytes.fromhex(blocks), executable=False),
        FileEntry(name, len(small), hashlib.sha256(small).digest(), b"", executable=False),
    ][:: 1 if name > b"large" else -1])


def _version(tree: BuiltTree, project: str) -> NewVersion:
    return NewVersion(ENTITY, project, "cars", "dataset", tree.digest, tree.totals.size, tree.totals.file_count)


# two servers --------------------------------------------------------------------------------------------------------
def test_a_hundred_commits_over_two_servers_are_in_order(large_team: Team) -> None:
    project, token = large_team.project(), large_team.token("root", is_admin=True)
    indexes: list[int] = []
    with large_team.client(token, 0) as one, large_team.client(token, 1) as two:
        both = [one, two]
        versions = [sent(both[n % 2], n, ENTITY, project, aliases=("best",)) for n in range(100)]
        # What was sent through one server is there for the other.
        threads = [
            threading.Thread(target=lambda n=n: indexes.append(both[(n + 1) % 2].commit(versions[n]).member.index))  # type: ignore[misc]
            for n in range(100)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(indexes) == list(range(100))
        for catalog in both:
            found = catalog.members(catalog.resolve(ENTITY, project, "cars", "latest").collection_id)
            assert [member.index for member in found] == list(range(100))
            assert [member.aliases for member in found] == [()] * 99 + [("best", "latest")]


def test_moves_are_told_across_servers(large_team: Team) -> None:
    project, token = large_team.project(), large_team.token("root", is_admin=True)
    with large_team.client(token, 0) as one, large_team.client(token, 1) as two:
        members = [logged(one, n, ENTITY, project) for n in range(2)]
        told: list[EventData | None] = []
        assert two.listen(told.append).wait_connected(30)
        for number, member in enumerate([*members, members[0]]):
            told.clear()
            one.set_aliases(member.id, add=[f"a{number}", "best"])
            until(lambda: EventData(ENTITY, project, "cars") in told, "it is told")
            assert two.resolve(ENTITY, project, "cars", "best").index == member.index


def test_a_thousand_clients_read_names_at_once(large_team: Team) -> None:
    """Each with a connection of its own, all of them open, and all asking at the same time, over PostgreSQL."""
    project, token = large_team.project(), large_team.token("root", is_admin=True)
    with large_team.client(token) as root:
        logged(root, 1, ENTITY, project)
    host, port = large_team.url().rpartition("/")[2].split(":")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], min(4096, limits[1])), limits[1]))
    path = f"/v1/projects/{ENTITY}/{project}/collections"
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()

    async def read(everybody: asyncio.Barrier) -> set[bytes]:
        reader, writer = await asyncio.open_connection(host, int(port))
        await everybody.wait()
        answers = set()
        for _ in range(2):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answers.add(head.split()[1] + (await reader.readexactly(size)))
        writer.close()
        return answers

    async def ask() -> set[bytes]:
        everybody = asyncio.Barrier(1000)
        return set().union(*await asyncio.gather(*(read(everybody) for _ in range(1000))))

    (answer,) = asyncio.run(ask())
    assert answer.startswith(b"200[") and b'"cars"' in answer



def test_large_and_small_files_do_not_wait_for_each_other(
    small_team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More large ones than threads, and behind them more groups of small ones than may be under way."""
    monkeypatch.setattr(upload, "GROUP_COUNT", 1)
    project = small_team.project()
    for number in range(3 * upload.AT_ONCE):
        (tmp_path / str(number)).write_bytes(LARGE + bytes(number))

    def send() -> None:
        with small_team.client(small_team.token("root", is_admin=True)) as root:
            store = RemoteStore(root.http, place=(ENTITY, project))
            with store.begin((ENTITY, project)) as batch:
                digests = [batch.put_file(path).digest for path in tmp_path.iterdir() if path.name.isdecimal()]
                digests += [batch.put_bytes(b"%d" % number) for number in range(40)]
                batch.sync()
            with store.begin((ENTITY, project)) as again:
                assert again.lacks(digests) == set()
            done.append(len(digests))

    done: list[int] = []
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    sender.join(120)
    assert done == [40 + 3 * upload.AT_ONCE]


def test_sending_tells_how_far_it_is(small_team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "TELL_S", 0.001)
    project = small_team.project()
    (tmp_path / "large").write_bytes(LARGE * 10)
    told: list[Progress] = []
    with small_team.client(small_team.token("root", is_admin=True)) as root:
        for number in range(2):
            told.clear()
            with RemoteStore(root.http).begin((ENTITY, project)) as batch:
                batch.put_file(tmp_path / "large")
                batch.put_bytes(b"small %d" % number)
                sync(batch, told.append, "send")
            assert told[0] == Progress("send", 0, 0, 0, 0)
            assert all(before.nbytes <= after.nbytes <= after.nbytes_total for before, after in pairwise(told))
            # The second time only what is new is sent.
            expected = 7 + (10 * len(LARGE) if number == 0 else 0)
            assert told[-1] == Progress("send", 0, 0, expected, expected)
