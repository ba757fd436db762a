import pytest

from artfs.errors import InvalidNameError
from artfs.model.ignore import IgnoreRules


@pytest.mark.parametrize(
    "path",
    [
        ".artfsignore",
        ".DS_Store",
        "a/b/.DS_Store",
        "Thumbs.db",
        "notes.txt.swp",
        ".x.swo",
        "notes~",
        "~",
        "a/.#lock",
        ".nfs0000001",
        ".fuse_hidden00001",
        "a\n.swp",
        "\udcff~",
        "x.swp/inside",
    ],
)
def test_leftovers_are_ignored(path: str):
    assert IgnoreRules.defaults().ignores(path, False)
    assert IgnoreRules.parse("").ignores(path, False)
    assert not IgnoreRules.none().ignores(path, False)


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a.txt",
        "sub/.artfsignore",
        "49130",
        "swp",
        "a.swpx",
        "4913",
        "~a",
        ".gitignore",
        "thumbs.db",
        "#a",
    ],
)
def test_content_is_kept(path: str):
    assert not IgnoreRules.defaults().ignores(path, False)


def test_rules_of_gitignore():
    rules = IgnoreRules.parse(
        "\ufeff# comment\r\n\r\n*.log\r\n!keep.log\r\n/top\r\nbuild/\r\ndata/**/tmp\r\n\\#x\r\n"
    )
    assert rules.ignores("a/b.log", False)
    assert not rules.ignores("a/keep.log", False)
    assert rules.ignores("top", False)
    assert not rules.ignores("a/top", False)
    assert rules.ignores("a/build", True)
    assert not rules.ignores("a/build", False)
    assert rules.ignores("a/build/x", False)
    assert rules.ignores("data/tmp", False)
    assert rules.ignores("data/a/b/tmp", False)
    assert rules.ignores("#x", False)
    assert not rules.ignores("# comment", False)


def test_a_default_can_be_taken_back():
    rules = IgnoreRules.parse("!*.swp")
    assert not rules.ignores("a.swp", False)
    assert rules.ignores("a.swo", False)


@pytest.mark.parametrize("bad", ["!", "!  ", "\\", "[z-a]"])
def test_a_rule_that_means_nothing_is_named_with_its_line(bad: str):
    with pytest.raises(InvalidNameError, match="line 2: cannot understand the rule"):
        IgnoreRules.parse(f"ok\n{bad}\nok")
