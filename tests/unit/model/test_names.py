from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.errors import InvalidNameError
from artfs.model.names import (
    ArtifactName,
    check_alias,
    check_collection_name,
    check_entity_name,
    check_project_name,
    check_tag,
    check_type,
    is_version,
    looks_like_version,
    parse_name,
    parse_time,
    version_index,
)

CHECKS = [
    check_collection_name,
    check_project_name,
    check_entity_name,
    check_type,
    check_alias,
    check_tag,
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("", "is empty"),
        ("x" * 129, "129 characters; at most 128"),
        ("a\0b", "control character"),
        ("a\n", "control character"),
        ("a\x7f", "control character"),
        ("a/b", "allowed|must not hold"),
        ("a:b", "allowed|must not hold"),
        ("\udcff", "UTF-8|allowed"),
    ],
)
def test_what_no_name_may_be(check, bad: str, why: str):
    with pytest.raises(InvalidNameError, match=why):
        check(bad)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", [None, 3, b"name", ["name"]])
def test_names_are_text(check, value: object):
    with pytest.raises(TypeError, match="must be a str"):
        check(value)


@pytest.mark.parametrize("check", CHECKS)
def test_ordinary_names_pass(check):
    for good in ("a", "mnist", "Data_1-2", "x" * 128):
        assert check(good) == good


@given(st.text(max_size=140))
def test_every_check_returns_its_argument_or_raises_invalid_name(text: str):
    for check in CHECKS:
        try:
            assert check(text) == text
        except InvalidNameError as error:
            assert "\n" not in str(error)
            assert isinstance(error, ValueError)


# collections ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", ["-", "...", ".a", "a.b", "v1", "latest", "drafts", "0"])
def test_artifact_names(good: str):
    assert check_collection_name(good) == good


@pytest.mark.parametrize("bad", ["a b", "é", "a@b", "a\\b", "a+b", "@x"])
def test_artifact_names_have_letters_digits_and_three_marks(bad: str):
    with pytest.raises(
        InvalidNameError, match="only letters A-Z and a-z, digits, underscores, hyphens and dots"
    ):
        check_collection_name(bad)


@pytest.mark.parametrize("bad", [".", ".."])
def test_artifact_names_that_mean_directories(bad: str):
    with pytest.raises(InvalidNameError, match="directory itself or its parent"):
        check_collection_name(bad)


# projects and entities --------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", ["my project", "a.b", "été", "a@b", "x-1", "draft", "Drafts"])
def test_project_names(good: str):
    assert check_project_name(good) == good
    assert check_entity_name(good) == good


@pytest.mark.parametrize("mark", list("/\\#?%:"))
def test_project_names_lack_the_marks_of_urls(mark: str):
    for check in (check_project_name, check_entity_name):
        with pytest.raises(InvalidNameError, match="not allowed are"):
            check(f"a{mark}b")


@pytest.mark.parametrize("bad", [".", "..", ".artfs", "@entity"])
def test_project_names_leave_the_mount_its_own(bad: str):
    for check in (check_project_name, check_entity_name):
        with pytest.raises(InvalidNameError, match="must not begin with"):
            check(bad)


def test_the_draft_folder_is_no_project():
    with pytest.raises(InvalidNameError, match="writable folder"):
        check_project_name("drafts")
    assert check_entity_name("drafts") == "drafts"


def test_a_registry_has_a_name():
    with pytest.raises(InvalidNameError, match="registry is missing"):
        check_project_name("wandb-registry-")
    assert check_project_name("wandb-registry-model") == "wandb-registry-model"


def test_names_fit_a_directory_of_the_mount():
    with pytest.raises(InvalidNameError, match="384 bytes in UTF-8; at most 255"):
        check_project_name("中" * 128)
    with pytest.raises(InvalidNameError, match="bytes in UTF-8"):
        check_alias("中" * 86)
    assert check_alias("中" * 85)


# types ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["job", "wandb-history", "wandb-"])
def test_reserved_types(bad: str):
    with pytest.raises(InvalidNameError, match="reserved"):
        check_type(bad)


@pytest.mark.parametrize(
    "good", ["dataset", "jobs", "Job", "wandb", "WANDB-x", "model.v2", "run_table", "code"]
)
def test_types(good: str):
    assert check_type(good) == good


def test_types_reserved_for_some_names():
    with pytest.raises(InvalidNameError, match="begin with 'run-'"):
        check_type("run_table", "run-abc-table")
    with pytest.raises(InvalidNameError, match="begin with 'source-'"):
        check_type("code", "source-project-main.py")
    assert check_type("code", "my-source") == "code"


@pytest.mark.parametrize("bad", ["a b", "a/b", "é"])
def test_types_have_letters_digits_and_three_marks(bad: str):
    with pytest.raises(InvalidNameError, match="only letters A-Z|must not|allowed"):
        check_type(bad)


# versions and aliases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "index"), [("v0", 0), ("v7", 7), ("v10", 10), ("v999999999999999999", 10**18 - 1)]
)
def test_versions(text: str, index: int):
    assert is_version(text)
    assert version_index(text) == index
    assert check_alias(text, allow_version=True) == text


@pytest.mark.parametrize(
    "text", ["v", "v-1", "v01", "v1 ", "V1", "v1.0", "1", "v\u0663", "v1\n", "v" + "9" * 19]
)
def test_what_is_no_version(text: str):
    assert not is_version(text)
    with pytest.raises(InvalidNameError, match="versions are v0, v1"):
        version_index(text)


@pytest.mark.parametrize("text", ["v0", "v01", "v\u0663", "v½", "v" + "9" * 30])
def test_no_alias_looks_like_a_version(text: str):
    assert looks_like_version(text)
    with pytest.raises(InvalidNameError, match="names a version"):
        check_alias(text)
    if not is_version(text):
        with pytest.raises(InvalidNameError, match="names a version"):
            check_alias(text, allow_version=True)


@pytest.mark.parametrize(
    "good", ["latest", "best model", "v", "version-1", "v1.0", "1", ".hidden", "a@b", "été", "-"]
)
def test_aliases(good: str):
    assert check_alias(good) == good


@pytest.mark.parametrize(
    ("bad", "why"),
    [("a/b", "'/' or ':'"), ("a:b", "'/' or ':'"), ("@2026-11-01", "point in time"), ("..", "parent")],
)
def test_bad_aliases(bad: str, why: str):
    with pytest.raises(InvalidNameError, match=why):
        check_alias(bad)


# tags -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", ["a", "two words", "two  words", "a-b_c", "-", "été 中"])
def test_tags(good: str):
    assert check_tag(good) == good


@pytest.mark.parametrize("bad", [" a", "a ", " ", "a.b", "a,b", "a+"])
def test_bad_tags(bad: str):
    with pytest.raises(InvalidNameError, match="spaces between"):
        check_tag(bad)


# full names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("n", ArtifactName("E", "P", "n")),
        ("n:latest", ArtifactName("E", "P", "n", "latest")),
        ("p/n:v3", ArtifactName("E", "p", "n", "v3")),
        ("e/p/n", ArtifactName("e", "p", "n")),
        ("e/p/n:best model", ArtifactName("e", "p", "n", "best model")),
        ("p/n:@2026-11-01", ArtifactName("E", "p", "n", "@2026-11-01")),
        ("n:@2026-11-01T12:00:00+02:00", ArtifactName("E", "P", "n", "@2026-11-01T12:00:00+02:00")),
    ],
)
def test_full_names(text: str, name: ArtifactName):
    assert parse_name(text, "E", "P") == name
    assert parse_name(str(name)) == name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (":latest", "empty"),
        ("n:", "alias is empty"),
        ("n:a:b", "'/' or ':'"),
        ("n:a/b", "'/' or ':'"),
        ("a/b/c/d", "more parts"),
        ("//n", "empty"),
        ("/n", "project name is empty"),
        ("p/", "artifact name is empty"),
        ("drafts/n", "writable"),
        ("n:v01", "names a version"),
        ("n:@yesterday", "bad time"),
        ("n:@2026-13-01", "bad time"),
    ],
)
def test_bad_full_names(text: str, why: str):
    with pytest.raises(InvalidNameError, match=why):
        parse_name(text, "E", "P")


def test_a_missing_part_without_a_default():
    with pytest.raises(InvalidNameError, match="lacks its project"):
        parse_name("n", "E", None)
    with pytest.raises(InvalidNameError, match="lacks its entity"):
        parse_name("p/n")
    with pytest.raises(TypeError, match="must be a str"):
        parse_name(None)  # type: ignore[arg-type]


@given(st.text(max_size=30))
def test_any_text_is_a_full_name_or_an_invalid_one(text: str):
    try:
        name = parse_name(text, "E", "P")
    except InvalidNameError:
        return
    assert parse_name(str(name)) == name


# times ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", datetime(2026, 11, 1, 23, 59, 59, 999999, UTC)),
        ("2024-02-29", datetime(2024, 2, 29, 23, 59, 59, 999999, UTC)),
        ("2026-11-01T12:00", datetime(2026, 11, 1, 12, 0, 0, 0, UTC)),
        ("2026-11-01T12:00Z", datetime(2026, 11, 1, 12, 0, 0, 0, UTC)),
        ("2026-11-01T12:00:07", datetime(2026, 11, 1, 12, 0, 7, 0, UTC)),
        ("2026-11-01T12:00:07.25Z", datetime(2026, 11, 1, 12, 0, 7, 250000, UTC)),
        ("2026-11-01T00:30+02:00", datetime(2026, 10, 31, 22, 30, 0, 0, UTC)),
        ("2026-11-01T12:00:00-05:30", datetime(2026, 11, 1, 17, 30, 0, 0, UTC)),
    ],
)
def test_times(text: str, moment: datetime):
    assert parse_time(text) == moment
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "2026",
        "2026-11",
        "2026-1-1",
        "2026-11-31",
        "0000-01-01",
        "2026-11-01T",
        "2026-11-01T24:30",
        "2026-11-01T12",
        "2026-11-01 12:00",
        "2026-11-01Z",
        "2026-11-01T12:00:60",
        "2026-11-01T12:00+2:00",
        "2026-11-01T12:00+25:00",
        "9999-12-31T23:00-02:00",
        "0001-01-01T00:00+02:00",
        "2026-11-01\n",
        "@2026-11-01",
        "\u0662026-11-01",
    ],
)
def test_bad_times(bad: str):
    with pytest.raises(InvalidNameError, match="bad time"):
        parse_time(bad)


def test_a_time_is_text():
    with pytest.raises(TypeError, match="must be a str"):
        parse_time(20261101)  # type: ignore[arg-type]
