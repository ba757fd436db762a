"""A server that lies: trees that no server would take, wrong bytes and lengths, pages of a hotel."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from artfs.errors import BadObjectError
from artfs.model.digests import BLOCK_SIZE, digest_bytes
from artfs.model.pages import MAX_DEPTH, decode_page
from artfs.testing.corner import Corner
from artfs.testing.farside import FarServer, FarWorkspace
from artfs.testing.liar import Liar
from artfs.testing.mount import Daemon
from artfs.testing.torture import Tally
from artfs.testing.trees import make

Artfs = Callable[..., subprocess.CompletedProcess[str]]
RAW = bytes(range(32))
HTML = b"<html><body>Please log in</body></html>"


@dataclass
class Lie:
    """`root`: of the version instead of the true one; "": the true one. `blobs`: what is sent for digests. `named`: digests of
    which a message should name one."""

    root: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    named: tuple[str, ...] = ()


def leaf(*entries: tuple[Any, ...]) -> bytes:
    return msgspec.msgpack.encode((1, 0, entries))


def a_file(name: bytes, size: int = 5, blocks: bytes = b"") -> tuple[Any, ...]:
    return ("f", name, size, RAW, blocks, False)


def tree(data: bytes, *others: bytes) -> Lie:
    """A root of these bytes, under its own digest; `others`: below it."""
    blobs = {digest_bytes(each): each for each in (data, *others)}
    return Lie(digest_bytes(data), blobs, (*blobs, RAW.hex()))


def under(digest: str, data: bytes) -> Lie:
    """A root whose bytes have another digest."""
    return Lie(digest, {digest: data}, (digest,))


def deep(levels: int) -> Lie:
    pages = [leaf(a_file(b"f"))]
    for _ in range(levels):
        pages.append(leaf(("d", b"d", bytes.fromhex(digest_bytes(pages[-1])), 5, 1)))
    return tree(*reversed(pages))


def directory(data: bytes, size: int, files: int) -> bytes:
    return leaf(("d", b"d", bytes.fromhex(digest_bytes(data)), size, files))


def huge_file() -> Lie:
    """A blob of a size that no disk has, with a block list that fits."""
    size = 2**61
    top = msgspec.msgpack.encode((1, size, RAW, bytes(32)))
    return tree(leaf(a_file(b"small", size, bytes.fromhex(digest_bytes(top)))), top)


def large_lie() -> Lie:
    """A blob of 3 TiB of which nothing is there, with a block list of the right shape."""
    size = 3 * 1024**4
    count = -(-size // BLOCK_SIZE)
    pages = -(-count * 32 // BLOCK_SIZE)
    top = msgspec.msgpack.encode((1, size, RAW, bytes(32 * pages)))
    return tree(leaf(a_file(b"small", size, bytes.fromhex(digest_bytes(top)))), top)


ITEM = (b"a", RAW, 2**62, 5, 1)
SELF = "5e" * 32
BAD_NAMES = (b"", b".", b"..", b"a/b", b"../x", b"/etc/x", b"a\0b", b"x" * 256)
TREES: dict[str, Lie] = {
    **{f"the name {name[:9]!r}": tree(leaf(a_file(name))) for name in BAD_NAMES},
    "names that are not sorted": tree(leaf(a_file(b"b"), a_file(b"a"))),
    "a name twice": tree(leaf(a_file(b"a"), a_file(b"a"))),
    "totals that lie": tree(directory(leaf(a_file(b"f")), 6, 1), leaf(a_file(b"f"))),
    "a number of files that lies": tree(directory(leaf(a_file(b"f")), 5, 2**40), leaf(a_file(b"f"))),
    "more than all bytes": tree(leaf(a_file(b"a", 2**63 - 1, RAW), a_file(b"b", 2**63 - 1, RAW))),
    "more than all entries": tree(msgspec.msgpack.encode((1, 1, [ITEM, (b"b", RAW, 2**62, 5, 1)]))),
    "an index of one page": tree(msgspec.msgpack.encode((1, 1, [ITEM]))),
    "a page that names itself": under(SELF, msgspec.msgpack.encode((1, 1, [(b"a", bytes.fromhex(SELF), 20, 5, 1)] * 2))),
    "a folder that is its own": under(SELF, leaf(("d", b"d", bytes.fromhex(SELF), 5, 1))),
    "an array that says it is huge": tree(b"\x93\x01\x00\xdd\xff\xff\xff\xff"),
    "arrays in each other": tree(b"\x91" * 200_000),
    "a web page": tree(HTML),
    "nothing": tree(b""),
    "a link that leaves": tree(leaf(("l", b"x", b"../../etc/passwd"))),
    "an absolute link": tree(leaf(("l", b"x", b"/etc/passwd"))),
    "folders without an end": deep(MAX_DEPTH + 40),
    "a file of two exabytes": huge_file(),
    "three terabytes that are not there": large_lie(),
    "another tree's bytes": under(SELF, leaf(a_file(b"f"))),
}
OTHER = b"the other"
BYTES: dict[str, bytes] = {
    "wrong bytes": b"AS IT WAS LOGGED", "too few": b"as it was", "too many": b"as it was logged, and more", "none": b"",
    "a web page": HTML,
}


def small(number: int) -> bytes:
    """The true content of a file of the version with that number."""
    return b"as it was logged %d" % number


@pytest.fixture
def liar(far_server: FarServer) -> Iterator[Liar]:
    with Liar(far_server.url) as made:
        yield made


@pytest.fixture
def lied_to(far_server: FarServer, liar: Liar, expect_log: Callable[..., None]) -> Iterator[FarWorkspace]:
    expect_log("wrong bytes|came wrong|damaged|fetching")
    made = FarWorkspace(far=far_server, extra={"ARTFS_SERVER": liar.url})
    yield made
    made.remove()


def commands(artfs: Artfs, workspace: FarWorkspace) -> Artfs:
    ours = {name: value for name, value in workspace.environ.items() if name.startswith("ARTFS_")}
    return lambda *words: artfs(*words, **ours)


def tell(liar: Liar, artfs: Artfs, project: str, folder: Path, lies: dict[str, Lie]) -> dict[str, str]:
    """Logs a true version for each lie; names of collections by lie."""
    names = {}
    for number, (what, lie) in enumerate(lies.items()):
        name = names[what] = f"c{number}"
        content = {"small": small(number), "d/other": OTHER}
        done = artfs("log", make(folder / name, content), f"{project}/{name}")
        assert done.returncode == 0, done.stderr
        digest = json.loads(artfs("info", f"{project}/{name}:latest", "--json").stdout)["digest"]
        if lie.root:
            liar.instead[digest] = lie.root
            liar.totals[lie.root] = totals_of(lie)
        liar.lies.update(lie.blobs)
    return names


def totals_of(lie: Lie) -> tuple[int, int]:
    """What its root says itself, so that nothing is noticed before it is looked into."""
    try:
        found = decode_page(lie.root, lie.blobs[lie.root]).totals
    except BadObjectError:
        return 5, 1
    return found.size, found.file_count


def errors_below(path: Path) -> tuple[list[int], list[bytes]]:
    """(errnos, contents) of everything that can be met there."""
    errnos: list[int] = []
    contents: list[bytes] = []

    def note(error: OSError) -> None:
        assert error.errno is not None
        errnos.append(error.errno)

    for folder, _, files in os.walk(path, onerror=note):
        for name in files:
            try:
                if os.path.islink(os.path.join(folder, name)):
                    os.readlink(os.path.join(folder, name))
                    continue
                with open(os.path.join(folder, name), "rb") as stream:
                    contents.append(stream.read(100))
            except OSError as error:
                note(error)
    return errnos, contents


def check_refusal(what: str, done: subprocess.CompletedProcess[str], named: tuple[str, ...]) -> None:
    """One line, that names a digest, and no defect of ours."""
    assert done.returncode == 8, (what, done)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("artfs: ")]
    assert any(digest in line for digest in named), (what, named, line)
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr, (what, done.stderr)


def check_nothing_outside(folder: Path) -> None:
    """Nothing but the target was made, and in it no file that is wrong."""
    assert set(os.listdir(folder)) <= {"target"}
    for path in folder.rglob("*"):
        if path.is_file():
            name = str(path.relative_to(folder / "target"))
            assert name == "d/other" and path.read_bytes() == OTHER, path


def test_trees_that_no_server_would_take(
    liar: Liar, lied_to: FarWorkspace, project: str, tmp_path: Path, artfs: Artfs, make_daemon: Callable[..., Daemon],
    tally: Tally, scale: Callable[[int, int], int], chance: random.Random,
) -> None:
    """Through the mount, `ls`, `get`, `pull` and the API: an error that names the digest, at once, and nothing made outside."""
    ours = commands(artfs, lied_to)
    some = {"another tree's bytes", *chance.sample(sorted(TREES), scale(4, len(TREES)))}
    lies = {what: TREES[what] for what in sorted(some)}
    names = tell(liar, ours, project, tmp_path / "true", lies)
    check_all(liar, lied_to, project, tmp_path, ours, make_daemon, lies, names)
    tally("lies of a server, through mount, commands and API", len(lies))


def check_all(
    liar: Liar, lied_to: FarWorkspace, project: str, tmp_path: Path, ours: Artfs, make_daemon: Callable[..., Daemon],
    lies: dict[str, Lie], names: dict[str, str],
) -> None:
    daemon = make_daemon(lied_to)
    daemon.expect_log("damaged|wrong|deep|totals|bytes|size|missing|has no|not the")
    daemon.start()
    for what, name in names.items():
        lie = lies[what]
        errnos, contents = errors_below(daemon.mountpoint / project / name / "latest")
        assert errno.EIO in errnos and set(errnos) <= {errno.EIO, errno.ELOOP}, (what, errnos, daemon.log()[-3000:])
        assert set(contents) <= {OTHER}, what
        assert any(digest in daemon.log() for digest in lie.named), what
        listed = ours("ls", f"{project}/{name}:latest")
        assert listed.returncode in (0, 8) and "internal error" not in listed.stderr, (what, listed)
        folder = tmp_path / "got" / name
        folder.mkdir(parents=True)
        check_refusal(what, ours("get", f"{project}/{name}", folder / "target"), lie.named)
        check_nothing_outside(folder)
        check_refusal(what, ours("pull", f"{project}/{name}"), lie.named)
    assert "Traceback" not in daemon.log()
    by_api(lied_to, project, tmp_path, lies, names)
    liar.lies.clear()
    liar.instead.clear()
    assert lied_to.check_cache().damaged == []


SCRIPT = """
import json, pathlib, sys
import artfs

for name in sys.argv[3:]:
    artifact = None
    for number, what in enumerate(("download", "checkout")):
        folder = pathlib.Path(sys.argv[2]) / name / what
        folder.mkdir(parents=True)
        try:
            artifact = artifact or artfs.Api().artifact(f"local/{sys.argv[1]}/{name}:latest")
            getattr(artifact, what)(str(folder / "target"))
            said = "nothing"
        except artfs.errors.ArtfsError as error:
            said = str(error)
        print(json.dumps([name, what, said]), flush=True)
"""


def by_api(
    lied_to: FarWorkspace, project: str, tmp_path: Path, lies: dict[str, Lie], names: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, project, str(tmp_path / "api"), *names.values()],
        env=lied_to.environ, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == 2 * len(names)
    by_name = {name: what for what, name in names.items()}
    for name, how, said in told:
        what = by_name[name]
        assert any(digest in said for digest in lies[what].named), (what, how, said)
        check_nothing_outside(tmp_path / "api" / name / how)


def test_bytes_that_are_not_the_file_s(
    liar: Liar, lied_to: FarWorkspace, project: str, tmp_path: Path, artfs: Artfs, make_daemon: Callable[..., Daemon],
    tally: Tally,
) -> None:
    """Whatever is sent for a file: EIO, or an error that names the blob; all else of the version is as it was."""
    ours = commands(artfs, lied_to)
    lies = {}
    for number, (what, data) in enumerate(BYTES.items()):
        digest = digest_bytes(small(number))
        lies[what] = Lie("", {digest: data}, (digest,))
    names = tell(liar, ours, project, tmp_path / "true", lies)
    check_all(liar, lied_to, project, tmp_path, ours, make_daemon, lies, names)
    tally("lies of a server, through mount, commands and API", len(lies))


def test_names_that_look_alike_stay_apart(
    far: FarWorkspace, project: str, tmp_path: Path, make_daemon: Callable[..., Daemon]
) -> None:
    """Other case, other Unicode forms, letters of other scripts, right-to-left marks: allowed, and files of their own."""
    names = ["a", "A", "\u0430", "é", "e\u0301", "K", "\u212a", "x\u202etxt", "x\u200b"]
    names += ["x", "\uff0e\uff0e", "CON", "a:b", "a\\b", "\x1b[2J"]
    content = {name: name.encode() for name in names}
    daemon = make_daemon(far).start()
    Corner(daemon, project).log(make(tmp_path / "true", content))
    root = daemon.mountpoint / project / "c" / "latest"
    assert sorted(os.listdir(root)) == sorted(names)
    assert {name: (root / name).read_bytes() for name in names} == content
    listed = far.artfs("ls", f"{project}/c:latest").stdout
    assert "\x1b" not in listed and "\u202e" not in listed and "\\x1b[2J" in listed
    far.artfs("get", f"{project}/c", tmp_path / "got")
    assert {name: (tmp_path / "got" / name).read_bytes() for name in names} == content
