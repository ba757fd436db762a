"""References in the mount (docs/semantics.md, "References")."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing.mount import Daemon, Workspace
from artfs.testing.objects import Kind, ObjectServer, uri_of
from artfs.testing.web import Page, WebServer


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


def log_references(workspace: Workspace, *calls: str, name: str = "refs", more: str = "") -> None:
    """Logs an artifact to the project `p` in a process of its own; `calls`: arguments of add_reference."""
    lines = [f"a.add_reference({call})" for call in calls]
    code = "\n".join(
        ["import artfs", f"a = artfs.Artifact({name!r}, 'dataset')", *lines, more, "a.save(project='p')"]
    )
    done = workspace.account.run([workspace.account.python, "-c", code], env=workspace.environ)
    assert done.returncode == 0, done.stderr


def refused(number: int, read: Callable[[], object]) -> None:
    with pytest.raises(OSError) as raised:
        read()
    assert raised.value.errno == number


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "source"
    (top / "d").mkdir(parents=True)
    (top / "one").write_text("one")
    (top / "d" / "a#b %?.txt").write_text("special")
    (top / "big").write_bytes(os.urandom(3_000_001))
    return top


def test_references_are_files(daemon: Daemon, web: WebServer, source: Path, tmp_path: Path) -> None:
    log_references(daemon.workspace, repr(f"file://{source}"), repr(web.put("/w.bin", b"web" * 100_000, etag="1")))
    root = daemon.mountpoint / "p" / "refs" / "latest"
    assert sorted(os.listdir(root)) == ["big", "d", "one", "w.bin"]
    assert (root / "one").stat().st_size == 3
    assert (root / "w.bin").stat().st_size == 300_000
    assert len(web.seen) == 1
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    assert (copy / "w.bin").read_bytes() == b"web" * 100_000
    (copy / "w.bin").unlink()
    assert subprocess.run(["diff", "-r", source, copy]).returncode == 0
    assert os.getxattr(root / "w.bin", "user.artfs.uri").decode() == f"{web.url}/w.bin"
    assert os.getxattr(root / "w.bin", "user.artfs.digest") == b"1"


def test_the_signature_of_a_presigned_url_does_not_show(daemon: Daemon, web: WebServer) -> None:
    log_references(daemon.workspace, repr(web.put("/f?signature=secret", b"one", etag="1")))
    file = daemon.mountpoint / "p" / "refs" / "latest" / "f"
    assert file.read_bytes() == b"one"
    assert os.getxattr(file, "user.artfs.uri").decode() == f"{web.url}/f?…"
    web.put("/f?signature=secret", b"two", etag="2")
    daemon.expect_log(r"p/refs:v0/f cannot be read: http://.*/f\?… changed")
    refused(errno.EIO, file.read_bytes)
    assert "secret" not in daemon.log()


def test_a_changed_file_is_eio_and_the_log_says_what_changed(daemon: Daemon, source: Path) -> None:
    log_references(daemon.workspace, repr(f"file://{source}"))
    one = daemon.mountpoint / "p" / "refs" / "v0" / "one"
    assert one.read_text() == "one"
    (source / "one").write_text("two")
    daemon.expect_log(r"p/refs:v0/one cannot be read: file://.*/source/one changed: its SHA-256 is \w+, and was \w+")
    refused(errno.EIO, one.read_text)
    (source / "one").write_text("longer")
    daemon.expect_log(r"p/refs:v0/one cannot be read: .*changed: it has 6 bytes, and had 3")
    refused(errno.EIO, one.read_text)
    (source / "one").unlink()
    daemon.expect_log(r"p/refs:v0/one cannot be read: .*is gone")
    refused(errno.EIO, one.read_text)
    lines = [line for line in daemon.log().splitlines() if "ERROR" in line or "WARNING" in line]
    assert len(lines) == 3, lines
    (source / "one").write_text("one")
    assert one.read_text() == "one"


def test_a_changed_page_is_eio_and_the_log_says_what_changed(daemon: Daemon, web: WebServer) -> None:
    log_references(daemon.workspace, repr(web.put("/f", b"one", etag="1")))
    file = daemon.mountpoint / "p" / "refs" / "latest" / "f"
    assert file.read_bytes() == b"one"
    web.put("/f", b"two", etag="2")
    daemon.expect_log(r"p/refs:v0/f cannot be read: http://.*/f changed: its ETag is 2, and was 1")
    refused(errno.EIO, file.read_bytes)
    web.pages["/f"] = Page(status=404)
    daemon.expect_log(r"p/refs:v0/f cannot be read: http://.*/f is gone: the server says 404")
    refused(errno.EIO, file.read_bytes)
    web.put("/f", b"one", etag="1")
    assert file.read_bytes() == b"one"


@pytest.mark.parametrize(("kind", "keeps_versions"), [("s3", True), ("gs", True), ("azure", False)])
def test_objects_of_a_store_are_files(
    workspace: Workspace, make_daemon: Callable[..., Daemon], kind: Kind, keeps_versions: bool
) -> None:
    store = ObjectServer(kind, keeps_versions)
    try:
        workspace.config.write_text(f'{kind}_endpoint = "{store.endpoint}"\n')
        store.make_bucket("bucket")
        for key in ("dir/a#b %?", "dir/sub/f", "dir/nothing/", "dir2/other"):
            store.put("bucket", key, b"" if key.endswith("/") else key.encode())
        log_references(workspace, repr(uri_of(kind, "bucket", "dir")))
        daemon = make_daemon(workspace).start()
        root = daemon.mountpoint / "p" / "refs" / "latest"
        found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        assert found == {"a#b %?": b"dir/a#b %?", "sub/f": b"dir/sub/f"}
        file = root / "sub" / "f"
        assert os.getxattr(file, "user.artfs.uri").decode() == uri_of(kind, "bucket", "dir/sub/f")
        store.put("bucket", "dir/sub/f", b"changed!!")
        if keeps_versions:
            assert file.read_bytes() == b"dir/sub/f"
            store.buckets["bucket"].objects["dir/sub/f"].pop(0)
            daemon.expect_log(r"p/refs:v0/sub/f cannot be read: .*/dir/sub/f is gone: there is no such object")
        else:
            daemon.expect_log(r"p/refs:v0/sub/f cannot be read: .*/dir/sub/f changed: its ETag is \S+, and was \S+")
        refused(errno.EIO, file.read_bytes)
        store.buckets["bucket"].denies = 403
        daemon.expect_log(r"p/refs:v0/sub/f cannot be read: .*/dir/sub/f may not be read")
        refused(errno.EACCES, file.read_bytes)
    finally:
        store.close()


def test_what_was_fetched_reads_while_its_server_is_away(daemon: Daemon, web: WebServer) -> None:
    log_references(daemon.workspace, *(repr(web.put(f"/{name}", name.encode(), etag=name)) for name in ("f", "g")))
    root = daemon.mountpoint / "p" / "refs" / "latest"
    assert (root / "f").read_bytes() == b"f"
    web.close()
    try:
        assert (root / "f").read_bytes() == b"f"
        daemon.expect_log(r"p/refs:v0/g cannot be read: http://.*/g cannot be reached")
        refused(errno.EHOSTUNREACH, (root / "g").read_bytes)
    finally:
        web.__init__()  # type: ignore[misc]  # so that the fixture can close it


def test_references_without_checksum_read_what_is_there(daemon: Daemon, web: WebServer, source: Path) -> None:
    calls = [f"{f'file://{source}/one'!r}, checksum=False", f"{web.put('/f', b'1', etag='1')!r}, checksum=False"]
    log_references(daemon.workspace, *calls)
    root = daemon.mountpoint / "p" / "refs" / "latest"
    assert ((root / "one").read_text(), (root / "f").read_bytes()) == ("one", b"1")
    (source / "one").write_text("another")
    web.put("/f", b"more", etag="2")
    assert ((root / "one").read_text(), (root / "f").read_bytes()) == ("another", b"more")
    assert os.listdir(daemon.workspace.home / "references") == []


def test_an_entry_of_another_artifact_reads_from_the_store(daemon: Daemon, source: Path) -> None:
    code = f"""
s = artfs.Artifact('source', 'dataset')
s.add_dir({str(source)!r})
s.save(project='p')
a.add_reference(s.get_entry('big'))
"""
    log_references(daemon.workspace, more=code)
    assert (daemon.mountpoint / "p" / "refs" / "latest" / "big").read_bytes() == (source / "big").read_bytes()
    daemon.workspace.artfs("delete", "p/source:v0", "--yes", "--delete-aliases")
    daemon.client().call("refresh")
    daemon.expect_log("p/refs:v0/big cannot be read: .*was deleted")
    refused(errno.EIO, (daemon.mountpoint / "p" / "refs" / "latest" / "big").read_bytes)


def test_what_artfs_cannot_read_says_so(daemon: Daemon) -> None:
    log_references(daemon.workspace, "'x://y', 'f', checksum=False")
    daemon.expect_log("p/refs:v0/f cannot be read: x://y cannot be read: artfs does not know x://")
    refused(errno.EOPNOTSUPP, (daemon.mountpoint / "p" / "refs" / "latest" / "f").read_bytes)


def test_somebody_elses_references_read_nothing_of_this_machine(
    workspace: Workspace, make_daemon: Callable[..., Daemon], web: WebServer, source: Path
) -> None:
    log_references(workspace, repr(f"file://{source}/one"), repr(web.put("/f", b"secret", etag="1")))
    (workspace.home / "known-references").unlink()
    web.seen.clear()
    daemon = make_daemon(workspace).start()
    root = daemon.mountpoint / "p" / "refs" / "latest"
    daemon.expect_log("cannot be read: file://.* was not added here")
    refused(errno.EACCES, (root / "one").read_bytes)
    daemon.expect_log("cannot be read: http://.* is not read: 127.0.0.1 is in a private network")
    refused(errno.EACCES, (root / "f").read_bytes)
    assert web.seen == []
    daemon.terminate()
    workspace.config.write_text(f'reference_roots = ["{source}"]\nreference_hosts = ["127.0.0.1"]\n')
    again = make_daemon(workspace).start()
    assert ((root / "one").read_text(), (root / "f").read_bytes()) == ("one", b"secret")
    again.terminate()


def test_a_draft_keeps_references(daemon: Daemon, web: WebServer, source: Path) -> None:
    log_references(daemon.workspace, repr(f"file://{source}"), repr(web.put("/f", b"web", etag="1")))
    draft = daemon.mountpoint / "drafts" / "p" / "refs:latest"
    draft.mkdir()
    assert ((draft / "one").read_text(), (draft / "f").read_bytes()) == ("one", b"web")
    assert os.getxattr(draft / "one", "user.artfs.uri").decode() == f"file://{source}/one"
    (draft / "f").rename(draft / "d" / "moved")
    os.utime(draft / "one", (1, 1))
    os.link(daemon.mountpoint / "p" / "refs" / "v0" / "big", draft / "linked")
    with (draft / "d" / "a#b %?.txt").open("a") as stream:
        stream.write(" and changed")
    (draft / "new").write_text("new")
    assert (draft / "d" / "moved").read_bytes() == b"web"
    assert (draft / "linked").read_bytes() == (source / "big").read_bytes()
    daemon.workspace.artfs("commit", "p/refs:latest")
    root = daemon.mountpoint / "p" / "refs" / "v1"
    assert (root / "d" / "a#b %?.txt").read_text() == "special and changed"
    assert (root / "d" / "moved").read_bytes() == b"web"
    for name, uri in (("one", f"file://{source}/one"), ("linked", f"file://{source}/big"), ("d/moved", f"{web.url}/f")):
        assert os.getxattr(root / name, "user.artfs.uri").decode() == uri
    with pytest.raises(OSError):
        os.getxattr(root / "d" / "a#b %?.txt", "user.artfs.uri")


def test_a_reference_in_a_draft_may_be_replaced(daemon: Daemon, source: Path) -> None:
    log_references(daemon.workspace, repr(f"file://{source}"))
    draft = daemon.mountpoint / "drafts" / "p" / "refs:latest"
    draft.mkdir()
    (draft / "one").write_text("mine")
    (draft / "big").unlink()
    assert (draft / "one").read_text() == "mine"
    assert (source / "one").read_text() == "one"
    daemon.workspace.artfs("commit", "p/refs:latest")
    assert (daemon.mountpoint / "p" / "refs" / "latest" / "one").read_text() == "mine"
    assert sorted(os.listdir(daemon.mountpoint / "p" / "refs" / "latest")) == ["d", "one"]
