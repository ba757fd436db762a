"""Many users of one mount (docs/semantics.md): what somebody else may read, change and learn, when root made it for all."""

from __future__ import annotations

import json
import os
import stat
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from artfs.testing.account import Account
from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.torture import Tally
from artfs.testing.trees import make

PROGRAM = textwrap.dedent(
    """
    import errno, json, os, sys
    found = {}
    for name, code in json.loads(sys.argv[1]).items():
        try:
            found[name] = eval(code)
        except OSError as error:
            found[name] = errno.errorcode[error.errno]
    print(json.dumps(found, default=str))
    """
)


class Person:
    """Somebody who has no privileges, and is not who mounted."""

    def __init__(self, account: Account) -> None:
        self.account = account

    def does(self, calls: dict[str, str]) -> dict[str, Any]:
        """What Python expressions give this person, or the names of their errnos."""
        done = self.account.run([self.account.python, "-c", PROGRAM, json.dumps(calls)])
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture
def second(ordinary: Account) -> Person:
    return Person(ordinary)


@pytest.fixture
def third(ordinary: Account) -> Person:
    """Another one."""
    assert ordinary.uid is not None and ordinary.gid is not None
    return Person(replace(ordinary, uid=ordinary.uid + 1, gid=ordinary.gid + 1))


@pytest.fixture
def mount(workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path) -> Corner:
    """For all, with a version that has secrets by its modes in vain, and a draft whose modes count."""
    daemon = make_daemon(workspace, ["--allow-other"]).start()
    corner = Corner(daemon, "p")
    corner.log(make(tmp_path / "source", {"file": "content", "folder/inner": "x"}))
    draft = corner.begin("d")
    for name, mode in {"open": 0o644, "closed": 0o600, "all": 0o666}.items():
        (draft / name).write_text(name)
        (draft / name).chmod(mode)
    (draft / "secret").mkdir()
    (draft / "secret" / "file").write_text("secret")
    (draft / "secret").chmod(0o700)
    (draft / "theirs").mkdir()
    (draft / "theirs").chmod(0o777)
    return corner


def test_others_may_read_versions_and_change_nothing(mount: Corner, second: Person, third: Person, tally: Tally) -> None:
    root = mount.path / "c" / "latest"
    calls = {
        "read": f"open({str(root / 'file')!r}).read()",
        "list": f"sorted(os.listdir({str(root)!r}))",
        "stat": f"oct(os.stat({str(root / 'folder')!r}).st_mode)",
        "owner": f"os.stat({str(root / 'file')!r}).st_uid",
        "may write": f"os.access({str(root / 'file')!r}, os.W_OK)",
        "xattr": f"os.getxattr({str(root)!r}, 'user.artfs.version').decode()",
        "write": f"open({str(root / 'file')!r}, 'a')",
        "create": f"open({str(root / 'new')!r}, 'x')",
        "unlink": f"os.unlink({str(root / 'file')!r})",
        "chmod": f"os.chmod({str(root / 'file')!r}, 0o777)",
        "mkdir of a collection": f"os.mkdir({str(mount.path / 'new')!r})",
        "mkdir of a project": f"os.mkdir({str(mount.mount / 'new')!r})",
        "rmdir of a project": f"os.rmdir({str(mount.path)!r})",
    }
    for person in (second, third):
        assert person.does(calls) == {
            "read": "content", "list": ["file", "folder"], "stat": "0o40755", "owner": os.geteuid(), "may write": False,
            "xattr": "v0", "write": "EACCES", "create": "EACCES", "unlink": "EACCES", "chmod": "EPERM",
            "mkdir of a collection": "EACCES", "mkdir of a project": "EACCES", "rmdir of a project": "EACCES",
        }  # fmt: skip
        tally("what other users may do in versions", len(calls))
    assert (root / "file").read_text() == "content"


def test_others_have_what_modes_give_them_in_drafts(mount: Corner, second: Person, third: Person, tally: Tally) -> None:
    draft = mount.drafts / "d"
    root = mount.path / "c" / "latest"
    first = second.does({
        "open": f"open({str(draft / 'open')!r}).read()",
        "closed": f"open({str(draft / 'closed')!r}).read()",
        "closed, stat": f"os.stat({str(draft / 'closed')!r}).st_size",
        "below a closed folder": f"open({str(draft / 'secret' / 'file')!r}).read()",
        "list a closed folder": f"os.listdir({str(draft / 'secret')!r})",
        "stat below it": f"os.stat({str(draft / 'secret' / 'file')!r})",
        "a name below it": f"os.path.exists({str(draft / 'secret' / 'none')!r})",
        "write what is open": f"open({str(draft / 'open')!r}, 'a')",
        "write what is for all": f"open({str(draft / 'all')!r}, 'a').write('!')",
        "create": f"open({str(draft / 'new')!r}, 'x')",
        "unlink": f"os.unlink({str(draft / 'open')!r})",
        "rename": f"os.rename({str(draft / 'open')!r}, {str(draft / 'other')!r})",
        "chmod": f"os.chmod({str(draft / 'open')!r}, 0o777)",
        "chown": f"os.chown({str(draft / 'open')!r}, os.getuid(), -1)",
        "touch": f"os.utime({str(draft / 'open')!r}, (1, 1))",
        "tell the version": f"os.setxattr({str(draft)!r}, 'user.artfs.description', b'x')",
        "begin a draft": f"os.mkdir({str(mount.drafts / 'mine')!r})",
        "abandon it": f"os.rmdir({str(draft)!r})",
        "commit it": f"os.rename({str(draft)!r}, {str(mount.path / 'd')!r})",
        "link from a version": f"os.link({str(root / 'file')!r}, {str(draft / 'theirs' / 'link')!r})",
    })  # fmt: skip
    assert first == {
        "open": "open", "closed": "EACCES", "closed, stat": 6, "below a closed folder": "EACCES",
        "list a closed folder": "EACCES", "stat below it": "EACCES", "a name below it": False, "write what is open": "EACCES",
        "write what is for all": 1, "create": "EACCES", "unlink": "EACCES", "rename": "EACCES", "chmod": "EPERM",
        "chown": "EPERM", "touch": "EPERM", "tell the version": "EACCES", "begin a draft": "EACCES", "abandon it": "EACCES",
        "commit it": "EACCES", "link from a version": "EPERM",
    }  # fmt: skip
    assert (draft / "all").read_text() == "all!"
    # In a folder that is open to all a file belongs to who made it, and what that says counts.
    mine = draft / "theirs" / "mine"
    made = {
        "make": f"os.close(os.open({str(mine)!r}, os.O_CREAT | os.O_WRONLY, 0o600))",
        "write": f"open({str(mine)!r}, 'w').write('mine')",
        "read": f"open({str(mine)!r}).read()",
        "owner": f"os.stat({str(mine)!r}).st_uid == os.getuid()",
        "chmod": f"os.chmod({str(mine)!r}, 0o600)",
    }
    assert second.does(made) == {"make": None, "write": 4, "read": "mine", "owner": True, "chmod": None}
    assert third.does({"read": f"open({str(mine)!r}).read()", "write": f"open({str(mine)!r}, 'w')"}) == {
        "read": "EACCES",
        "write": "EACCES",
    }
    assert mine.read_text() == "mine"
    tally("what other users may do in drafts", len(first) + len(made) + 2)


def test_links_belong_to_who_made_them(mount: Corner, second: Person, third: Person, tally: Tally) -> None:
    """So that they may remove them where a folder is open to all, but each may remove only what is theirs."""
    shared = mount.drafts / "d" / "theirs"
    shared.chmod(0o1777)
    link = f"{str(shared / 'link')!r}"
    assert second.does({"make": f"os.symlink('to', {link})", "owner": f"os.lstat({link}).st_uid == os.getuid()"}) == {
        "make": None,
        "owner": True,
    }
    takes = {"rename": f"os.rename({link}, {link} + '2')", "remove": f"os.unlink({link})"}
    assert third.does(takes) == {"rename": "EPERM", "remove": "EPERM"}
    assert second.does({**takes, "remove": f"os.unlink({link} + '2')"}) == {"rename": None, "remove": None}
    tally("what other users may do in drafts", 6)


@pytest.mark.parametrize("how", ["os.O_WRONLY", "os.O_RDWR", "os.O_WRONLY | os.O_APPEND"])
def test_a_write_takes_set_user_id_away_as_anywhere(mount: Corner, second: Person, how: str, tally: Tally) -> None:
    """By those who have no privileges; opening with O_TRUNC and truncate(2) count as writing."""
    shared = mount.drafts / "d" / "theirs"
    tells = "oct(os.stat(PATH).st_mode & 0o7777)"
    calls = {
        "write": f"(os.write(os.open(PATH, {how}), b'x'), {tells})[1]",
        "empty": f"(os.open(PATH, {how} | os.O_TRUNC), {tells})[1]",
        "truncate": f"(os.truncate(PATH, 1), {tells})[1]",
    }
    for bits in (0o4777, 0o2777, 0o6777):
        for name, code in calls.items():
            path = shared / f"{name}{bits:o}"
            path.write_text("something")
            path.chmod(bits)
            assert second.does({name: code.replace("PATH", repr(str(path)))}) == {name: "0o777"}
            # Root keeps them.
            path.chmod(bits)
            path.write_text("else")
            assert stat.S_IMODE(path.stat().st_mode) == bits
    new = repr(str(shared / "new"))
    made = second.does({"make": f"(os.umask(0), os.open({new}, os.O_CREAT | {how}, 0o6755), oct(os.stat({new}).st_mode))[2]"})
    assert made == {"make": "0o106755"}
    tally("what other users may do in drafts", 10)


def test_others_learn_nothing_from_the_control_folder(mount: Corner, second: Person, tally: Tally) -> None:
    control = mount.mount / ".artfs"
    found = second.does({
        "list": f"os.listdir({str(control)!r})",
        "status": f"open({str(control / 'status')!r}).read()",
        "stat": f"os.stat({str(control / 'status')!r})",
        "what is not there": f"os.stat({str(control / 'none')!r})",
        "xattrs": f"os.listxattr({str(control)!r})",
        "through /proc": f"os.listdir('/proc/self/cwd') if not os.chdir({str(control)!r}) else None",
        "not listed": f"sorted(os.listdir({str(mount.mount)!r}))",
    })  # fmt: skip
    assert found == {
        "list": "EACCES", "status": "EACCES", "stat": "EACCES", "what is not there": "EACCES", "xattrs": [],
        "through /proc": "EACCES", "not listed": ["drafts", "p"],
    }  # fmt: skip
    assert json.loads((control / "status").read_text())["pid"] == mount.daemon.pid
    for path in (control, *control.iterdir()):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    tally("looks into .artfs by another user", len(found))


def test_others_have_no_way_around_the_mount(mount: Corner, second: Person, tally: Tally) -> None:
    """Neither by what artfs keeps, nor by its sockets."""
    workspace = mount.daemon.workspace
    places = [workspace.home, *workspace.home.rglob("*"), *workspace.settings.cache_path.rglob("*")]
    kinds = [place for place in places if not place.is_symlink() and "files" not in place.parts]
    found = second.does({str(place): f"bool(os.stat({str(place)!r}))" for place in kinds if place != workspace.home})
    assert set(found.values()) == {"EACCES"}
    socket = workspace.settings.run_path / next(workspace.settings.run_path.glob("*.sock")).name
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    for place in kinds:
        mode = stat.S_IMODE(place.stat().st_mode)
        if place.is_dir() and place.parent == workspace.home:
            assert mode == 0o700, place
    assert stat.S_IMODE(workspace.home.stat().st_mode) == 0o700
    tally("looks at the state folder by another user", len(found))
