from __future__ import annotations

from pathlib import Path

import pytest

from artfs.cli import mount_helper
from artfs.cli.mount_helper import MountRequest, exit_code, parse, run, split_options
from artfs.cli.mounting import MountOptions
from artfs.errors import all_kinds

HERE = Path("/mnt/data")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("artfs /mnt/data", MountRequest(HERE)),
        ("artfs /mnt/data -o rw", MountRequest(HERE)),
        ("-o rw artfs /mnt/data", MountRequest(HERE)),
        ("artfs -orw /mnt/data -n", MountRequest(HERE)),
        ("artfs /mnt/data -o rw,noauto,nofail,_netdev,x-systemd.automount,user=me", MountRequest(HERE)),
        ("artfs /mnt/data -t artfs", MountRequest(HERE)),
        ("anything /mnt/data -sfnv", MountRequest(HERE, is_fake=True, is_verbose=True)),
        ("artfs /mnt/data -o home=/var/lib/artfs", MountRequest(HERE, home="/var/lib/artfs")),
        ('artfs /mnt/data -o home="/a,b",entity=me', MountRequest(HERE, home="/a,b", entity="me")),
        ("artfs /mnt/data -o home=/a -o home=/b", MountRequest(HERE, home="/b")),
        ("artfs /mnt/data -o home=/a=b", MountRequest(HERE, home="/a=b")),
        ("artfs /mnt/data -o allow_other", MountRequest(HERE, options=MountOptions(allow_other=True))),
        (
            "artfs /mnt/data -o aliases=symlinks,log_level=debug",
            MountRequest(HERE, options=MountOptions(aliases="symlinks", log_level="debug")),
        ),
        ("artfs /mnt/data -o aliases=directories", MountRequest(HERE)),
        ("artfs /mnt/data -o ro,noexec", MountRequest(HERE, flags=("noexec", "ro"))),
        ("artfs /mnt/data -r", MountRequest(HERE, flags=("ro",))),
        ("artfs /mnt/data -o ro,noexec,rw,exec", MountRequest(HERE)),
        ("artfs /mnt/data -s -o frobnicate=3", MountRequest(HERE)),
    ],
)
def test_parse(line: str, expected: MountRequest) -> None:
    assert parse(line.split(" ")) == expected


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "usage: mount.artfs"),
        ("artfs", "usage: mount.artfs"),
        ("artfs /mnt/data /mnt/other", "usage: mount.artfs"),
        ("artfs /mnt/data -x", "unknown option -x"),
        ("artfs /mnt/data -o", "-o needs a value"),
        ("artfs /mnt/data -N /proc/1/ns/mnt", "nsenter"),
        ("artfs /mnt/data -o frobnicate", "unknown option frobnicate; artfs knows home=DIR"),
        ("artfs /mnt/data -o allow_other=1", "unknown option allow_other=1"),
        ("artfs /mnt/data -o home", "home needs a value"),
        ("artfs /mnt/data -o home=", "home needs a value"),
        ("artfs /mnt/data -o home=here", "must be an absolute path"),
        ("artfs /mnt/data -o aliases=hardlinks", "aliases=hardlinks: must be directories or symlinks"),
        ("artfs /mnt/data -o log_level=loud", "log_level=loud: must be one of"),
        ("artfs /mnt/data -o suid", "always nosuid"),
        ("artfs /mnt/data -o remount", "unmount it and mount it again"),
        ('artfs /mnt/data -o home="/a', "a quote is not closed"),
    ],
)
def test_what_is_refused(line: str, complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == mount_helper.BAD_USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("mount.artfs: ")
    assert complaint in said.err


@pytest.mark.parametrize(
    ("text", "words"),
    [("", []), ("a", ["a"]), ("a,,b", ["a", "b"]), ('a="x,y",b', ["a=x,y", "b"]), (",a,", ["a"])],
)
def test_split_options(text: str, words: list[str]) -> None:
    assert split_options(text) == words


def test_every_error_has_an_exit_code_of_mount() -> None:
    codes = {kind: exit_code(cls.__new__(cls)) for kind, cls in all_kinds().items()}
    assert set(codes.values()) == {
        mount_helper.BAD_USAGE,
        mount_helper.SYSTEM_ERROR,
        mount_helper.MOUNT_FAILED,
    }
    assert codes["usage"] == mount_helper.BAD_USAGE
    assert (
        codes["mountpoint"] == codes["already-mounted"] == codes["unavailable"] == mount_helper.MOUNT_FAILED
    )
    assert codes["storage"] == codes["catalog"] == mount_helper.SYSTEM_ERROR


def test_a_missing_mountpoint_is_a_mount_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing"
    assert run(["artfs", str(missing), "-o", f"home={tmp_path / 'home'}"]) == mount_helper.MOUNT_FAILED
    assert "does not exist" in capsys.readouterr().err


def test_fake_mounts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["artfs", str(tmp_path / "missing"), "-fv", "-o", f"home={tmp_path / 'home'}"]) == mount_helper.OK
    )
    assert capsys.readouterr().out.startswith("mount.artfs: mounting the catalog in")
    assert not (tmp_path / "home").exists()
