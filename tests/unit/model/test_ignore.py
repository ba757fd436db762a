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


@pytest.mark.parametrize(
    ("rule", "ignored"),
    [
        ("*" * 100, True), ("*a" * 40 + "b", False), ("?*" * 30 + "b", False), ("*[a-c]" * 40 + "/", True),
        ("/" + "**/a*a*" * 4 + "b", False),
    ],
)  # fmt: skip
def test_a_rule_of_many_stars_takes_no_longer_than_others(rule: str, ignored: bool):
    """With a regular expression that tries each place of each star this would take longer than the universe is old."""
    assert IgnoreRules.parse(rule).ignores("a" * 200 + "/" + "a" * 255 + "/cc", False) is ignored


@pytest.mark.parametrize(
    ("rule", "path", "ignored"),
    [
        ("*a*b*", "xxaxxbxx", True), ("*a*b*", "xxbxxaxx", False), ("a*b*c", "abcbc", True), ("a*b*c", "abcbd", False),
        ("*.[!a]*[!b]", "x.cd", True), ("*.[!a]*[!b]", "x.ab", False), ("[!a]b", "x/b", False), ("x***y", "x1y", True),
        ("x***y", "x/y", False), (r"*\*a*b", "1*a2b", True), (r"*\*a*b", "1a2b", False),
    ],
)  # fmt: skip
def test_stars_and_classes(rule: str, path: str, ignored: bool):
    """As `git check-ignore` says."""
    assert IgnoreRules.parse(rule).ignores(path, False) is ignored


def test_a_rule_of_too_many_double_stars_is_named():
    with pytest.raises(InvalidNameError, match=r"line 2: cannot understand the rule .*more than 4 times"):
        IgnoreRules.parse("*.pyc\n" + "**/a/" * 5)
