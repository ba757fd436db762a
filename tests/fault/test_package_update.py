"""The package is replaced or removed while a mount lives: it goes on as it was until it is mounted again."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from artfs.client.control import running_mounts
from artfs.errors import DraftBusyError, DraftInvalidError, NotFoundError, UnavailableError
from artfs.testing.account import ROOT
from artfs.testing.corner import Corner
from artfs.testing.farside import FarServer, FarWorkspace, readable
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.objects import ObjectServer
from artfs.testing.trees import Link, make, picture
from artfs.testing.waiting import until
from artfs.testing.web import WebServer

MakeDaemon = Callable[..., Daemon]

SPY = '''
import os, sys
from importlib.machinery import PathFinder

class Spy:
    """Writes down what is imported after the file `updated` is there."""
    @staticmethod
    def find_spec(name, path=None, target=None):
        if os.path.exists({folder!r} + "/updated") and PathFinder.find_spec(name, path) is not None:
            with open({folder!r} + "/late", "a") as late:
                late.write(name + "\\n")
        return None

sys.meta_path.insert(0, Spy)
'''


class Installed:
    """A copy of the package, which a daemon runs from."""

    def __init__(self, workspace: Workspace) -> None:
        self.path = workspace.path / "installed"
        self.spy = workspace.path / "spy"
        self.spy.mkdir()
        for name in ("artfs", "daemon"):
            shutil.copytree(ROOT / name, self.path / name, ignore=shutil.ignore_patterns("__pycache__", "testing"))
        (self.spy / "sitecustomize.py").write_text(SPY.format(folder=str(self.spy)))
        self.environ = {"PYTHONPATH": f"{self.spy}:{self.path}:{self.path / 'daemon'}", "PYTHONDONTWRITEBYTECODE": "1"}

    def check_spy(self, workspace: Workspace) -> None:
        """That it would see an import."""
        (self.spy / "updated").touch()
        workspace.account.run([workspace.account.python, "-c", "import this"], env={**workspace.environ, **self.environ})
        assert "this" in self.late
        (self.spy / "updated").unlink()
        (self.spy / "late").unlink()

    def replace(self) -> None:
        """By what no program can load."""
        for path in self.path.rglob("*.py"):
            path.unlink()
            path.write_text("raise RuntimeError('this is of another version')\n")
        (self.spy / "updated").touch()

    def remove(self) -> None:
        shutil.rmtree(self.path)
        (self.spy / "updated").touch()

    @property
    def late(self) -> list[str]:
        """What was imported afterwards, but for Python's own modules."""
        path = self.spy / "late"
        names = path.read_text().split() if path.exists() else []
        return [name for name in names if name.partition(".")[0] not in sys.stdlib_module_names - {"this"}]


def use_everything(corner: Corner, path: Path) -> None:
    """Everything that a mount can be asked, over a version p/c:v0 with `file`, `large`, `folder/inner` and `link`."""
    mount, root = corner.mount, corner.path / "c" / "latest"
    assert sorted(os.listdir(mount)) == ["drafts", corner.name]
    assert sorted(os.listdir(corner.path / "c")) == ["latest", "v0"]
    assert (root / "file").read_text() == "content"
    assert len((root / "large").read_bytes()) == 3_000_000
    assert not (corner.path / "c" / "@2100-01-01").exists()
    assert (corner.path / "c" / f"@{datetime.now(UTC).isoformat()}" / "file").exists()
    assert os.getxattr(root, "user.artfs.version") == b"v0"
    assert os.getxattr(root / "file", "user.artfs.size") == b"7"
    assert os.listxattr(root)
    os.statvfs(mount)
    with pytest.raises(OSError, match="Read-only file system"):
        (root / "file").write_text("x")
    assert json.loads((mount / ".artfs" / "status").read_text())["pid"] == corner.daemon.pid
    (mount / "other").mkdir()
    (mount / "other" / "c").mkdir()
    (mount / "other" / "c").rmdir()
    (mount / "other").rmdir()

    draft = corner.begin("c:latest")
    (draft / "new").write_text("new")
    (draft / "big").write_bytes(os.urandom(3_000_000))
    with (draft / "file").open("r+b") as stream, mmap.mmap(stream.fileno(), 7) as view:
        view[:3] = b"CON"
        view.flush()
        os.fsync(stream.fileno())
    with (draft / "large").open("r+b") as stream:
        with pytest.raises(DraftBusyError):
            corner.commit("c:latest")
        stream.truncate(1_500_000)
    (draft / "sub").mkdir()
    (draft / "sub" / "link").symlink_to("../file")
    os.link(root / "folder" / "inner", draft / "linked")
    os.rename(draft / "new", draft / "sub" / "new")
    os.chmod(draft / "sub" / "new", 0o755)
    os.utime(draft / "sub" / "new", (1, 1))
    os.unlink(draft / "link")
    shutil.rmtree(draft / "folder")
    os.setxattr(draft, "user.artfs.metadata", b'{"a": 1}')
    shown = picture(draft)
    reply = corner.commit("c:latest", aliases=("best",), metadata={"b": [1, None]}, tags=("t",), description="d")
    assert reply.version == "v1"
    assert picture(corner.path / "c" / "best") == shown
    with pytest.raises(NotFoundError):
        corner.commit("c:latest")
    corner.begin("moved").joinpath("file").write_text("by mv")
    corner.path.joinpath("moved").mkdir()
    os.rename(corner.drafts / "moved", corner.path / "moved" / "moved")
    assert (corner.path / "moved" / "latest" / "file").read_text() == "by mv"
    corner.begin("gone").joinpath("file").write_text("x")
    corner.daemon.client().call("abandon", {"project": corner.name, "draft": "gone"})
    assert not (corner.drafts / "gone").exists()
    bad = corner.begin("bad")
    (bad / "link").symlink_to("/etc/passwd")
    with pytest.raises(DraftInvalidError, match="links that leave it"):
        corner.commit("bad")
    corner.log(make(path / "again", {"file": "from another process"}), "c")
    assert (corner.path / "c" / "latest" / "file").read_text() == "from another process"


@pytest.fixture
def installed(workspace: Workspace) -> Installed:
    return Installed(workspace)


@pytest.mark.parametrize("update", [Installed.replace, Installed.remove])
def test_a_mount_goes_on_when_its_package_is_updated(
    workspace: Workspace, make_daemon: MakeDaemon, installed: Installed, tmp_path: Path, update: Callable[[Installed], None]
) -> None:
    """Whatever is asked of it next; and it ends as cleanly as ever."""
    daemon = make_daemon(workspace, environ=installed.environ).start()
    corner = Corner(daemon, "p")
    source = make(
        tmp_path / "source", {"file": "content", "large": bytes(3_000_000), "folder/inner": "x", "link": Link("file")}
    )
    corner.log(source)
    installed.check_spy(workspace)
    update(installed)
    use_everything(corner, tmp_path)
    assert installed.late == []
    workspace.artfs("umount", workspace.mountpoint)
    assert daemon.wait() == 0
    assert "Traceback" not in daemon.log()


def test_so_do_references_and_what_tells_of_damage(
    workspace: Workspace, make_daemon: MakeDaemon, installed: Installed, tmp_path: Path
) -> None:
    """What is rarely needed was loaded all the same."""
    web, bucket = WebServer(), ObjectServer("s3")
    bucket.make_bucket("data")
    bucket.put("data", "key", b"object")
    (tmp_path / "outside").write_text("outside")
    uris = [f"file://{tmp_path / 'outside'}", web.put("/page", b"page", etag="1"), "s3://data/key"]
    code = "import artfs\na = artfs.Artifact('refs', 'dataset')\n" + "".join(f"a.add_reference({u!r})\n" for u in uris)
    environ = {"ARTFS_S3_ENDPOINT": bucket.endpoint, "ARTFS_METRICS": f"unix:{workspace.path}/metrics"}
    done = workspace.account.run(
        [workspace.account.python, "-c", code + "a.save(project='p')"], env={**workspace.environ, **environ}
    )
    assert done.returncode == 0, done.stderr
    daemon = make_daemon(workspace, environ={**installed.environ, **environ}).start()
    corner = Corner(daemon, "p")
    corner.log(make(tmp_path / "source", {"file": "content", "large": os.urandom(3_000_000), "mortal": "x"}))
    installed.remove()
    refs = corner.path / "refs" / "latest"
    assert (refs / "outside").read_text() == "outside"
    assert (refs / "page").read_bytes() == b"page"
    assert (refs / "key").read_bytes() == b"object"
    web.put("/page", b"other", etag="2")
    for name in ("file", "large"):
        digest = os.getxattr(corner.path / "c" / "v0" / name, "user.artfs.digest").decode()
        blob = workspace.blobs_path / digest[:2] / digest
        blob.chmod(0o600)
        blob.write_bytes(b"CONTENT" + blob.read_bytes()[7:])
        daemon.expect_log(f"v0/{name}")
        with pytest.raises(OSError, match="Input/output error"):
            (corner.path / "c" / "v0" / name).read_bytes()
    with corner.session() as session:
        member = session.catalog.resolve("local", "p", "c", "v0")
        session.catalog.update_version(member.version.id, ttl=timedelta(seconds=1))
    until(lambda: not (corner.path / "c" / "v0").exists(), "the version expires")
    assert b"artfs_mount_requests_total" in get_over_unix(workspace.path / "metrics")
    assert installed.late == []
    daemon.terminate()
    web.close()
    bucket.close()


def get_over_unix(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            return answer.read()


@pytest.mark.parametrize("where", ["far_server", "bucket_server"])
def test_so_does_a_mount_with_a_server(
    request: pytest.FixtureRequest, workspaces: ExitStack, make_daemon: MakeDaemon, tmp_path: Path, project: str, where: str
) -> None:
    """Also when the server comes and goes, and by way of a bucket."""
    server: FarServer = request.getfixturevalue(where)
    far = FarWorkspace(far=server)
    workspaces.callback(far.remove)
    installed = Installed(far)
    daemon = make_daemon(far, environ=installed.environ).start()
    corner = Corner(daemon, project)
    source = make(
        tmp_path / "source", {"file": "content", "large": os.urandom(6_000_000), **{f"d/{n}": str(n) for n in range(50)}}
    )
    far.artfs("log", source, f"{project}/c")
    corner.refresh()
    installed.check_spy(far)
    installed.remove()
    root = corner.path / "c" / "latest"
    assert picture(root) == picture(source)
    draft = corner.begin("c:latest")
    (draft / "new").write_bytes(os.urandom(5_000_000))
    (draft / "small").write_text("small")
    assert corner.commit("c:latest", aliases=("best",)).version == "v1"
    assert (corner.path / "c" / "best" / "small").read_text() == "small"
    far.artfs("log", make(tmp_path / "more", {"more": "more"}), f"{project}/c")
    until(lambda: (corner.path / "c" / "latest" / "more").exists(), "an event comes")
    daemon.expect_log("can be reached again|cannot be reached|cannot be read|No route|not answer|is away|sent ahead|no events")
    server.go_away()
    with pytest.raises(OSError):
        (corner.path / "c" / "latest" / "more").read_bytes()
    assert (corner.path / "c" / "v0" / "file").read_text() == "content"
    server.heal()
    until(lambda: readable(corner.path / "c" / "latest" / "more"), "the server is back")
    assert installed.late == []
    assert daemon.terminate() == 0
    assert "Traceback" not in daemon.log()


def test_a_catalog_that_a_newer_program_has_migrated(workspace: Workspace, make_daemon: MakeDaemon, tmp_path: Path) -> None:
    """As the first command after an update may do below a running mount. Migrations add, with defaults; who goes on reads and
    writes what there was before. The same program does not begin on it any more."""
    daemon = make_daemon(workspace).start()
    corner = Corner(daemon, "p")
    corner.log(make(tmp_path / "source", {"file": "content"}))
    with closing(sqlite3.connect(workspace.catalog_path)) as connection:
        connection.execute("ALTER TABLE versions ADD COLUMN of_tomorrow TEXT NOT NULL DEFAULT 'x'")
        connection.execute("ALTER TABLE memberships ADD COLUMN of_tomorrow INTEGER")
        connection.execute("CREATE TABLE of_tomorrow (id INTEGER PRIMARY KEY)")
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    assert (corner.path / "c" / "latest" / "file").read_text() == "content"
    draft = corner.begin("c:latest")
    (draft / "file").write_text("changed")
    assert corner.commit("c:latest").version == "v1"
    assert (corner.path / "c" / "latest" / "file").read_text() == "changed"
    daemon.terminate()
    code, said = make_daemon(workspace).failed_start()
    assert (code, "update artfs" in said) == (1, True)


def test_a_command_of_another_version_is_told_so(workspace: Workspace, make_daemon: MakeDaemon) -> None:
    """A daemon that does not know what is asked, or says what the command does not know."""
    daemon = make_daemon(workspace).start()
    client = daemon.client()
    with pytest.raises(UnavailableError, match=r"\(artfs .*\) does not understand the request .* unmount and mount again"):
        client.call("what-comes-tomorrow")
    Corner(daemon, "p").begin("c").joinpath("file").write_text("x")
    arguments = {"project": "p", "draft": "c", "options": {"of_tomorrow": True}}
    with pytest.raises(UnavailableError, match="of_tomorrow.*unmount and mount again"):
        client.call("commit", arguments)
    arguments["options"] = {}
    arguments["of_tomorrow"] = "passed over"
    assert client.call("commit", arguments)["version"] == "v0"

    (record,) = running_mounts(workspace.settings.run_path)
    assert record.release == daemon.status()["release"] != ""
    path = workspace.settings.run_path / f"{record.id}.json"
    other = {**msgspec.to_builtins(record), "release": "0.0.1", "of_tomorrow": 5}
    path.write_bytes(msgspec.json.encode(other))
    shown = workspace.artfs("status").stdout
    assert "answers; artfs 0.0.1 until it is mounted again" in shown
    del other["release"]
    path.write_bytes(msgspec.json.encode(other))
    assert running_mounts(workspace.settings.run_path) == [msgspec.structs.replace(record, release="")]
    assert "until it is mounted again" not in workspace.artfs("status").stdout
    daemon.terminate()


@pytest.mark.parametrize("answer", [b'{"result": 5}', b'{"error": 5}', b"what is this", b'{"result": {"of": "tomorrow"}}'])
def test_a_daemon_of_another_version_is_told_from_one_that_is_gone(
    workspace: Workspace, answer: bytes, make_daemon: MakeDaemon
) -> None:
    """What cannot be understood is one line, of the commands, too."""
    daemon = make_daemon(workspace).start()
    Corner(daemon, "p").begin("c").joinpath("file").write_text("x")
    (record,) = running_mounts(workspace.settings.run_path)
    fake = workspace.path / "fake.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(fake))
        listener.listen()
        answers = threading.Thread(target=answer_always, args=(listener, answer), daemon=True)
        answers.start()
        (workspace.settings.run_path / f"{record.id}.json").write_bytes(
            msgspec.json.encode(msgspec.structs.replace(record, socket=str(fake)))
        )
        done = workspace.artfs("commit", "p/c", check=False)
        assert done.returncode == 11
        assert "does not understand" in done.stderr and "unmount and mount again" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        listener.shutdown(socket.SHUT_RDWR)
        answers.join()
    daemon.terminate()


def answer_always(listener: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError):
            if connection.recv(4096):
                connection.sendall(answer + b"\n")
