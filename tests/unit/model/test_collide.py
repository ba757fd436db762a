from hypothesis import given
from hypothesis import strategies as st

from artfs.model.collide import case_collisions, folded


def test_case_and_accents_collide():
    names = ["README", "readme", "ReadMe", "other", "é", "e\u0301", "É", "straße", "STRASSE", "x"]
    assert case_collisions(names) == [
        ("README", "ReadMe", "readme"),
        ("STRASSE", "straße"),
        ("e\u0301", "É", "é"),
    ]


def test_names_that_do_not_collide():
    assert case_collisions([]) == []
    assert case_collisions(["a", "b", "a"]) == []
    assert case_collisions(["\udcff", "\udcfe"]) == []


@given(st.lists(st.text("aAbBéÉ\u0301eEſsSK\u212a", max_size=3)))
def test_groups_are_what_folds_to_the_same(names: list[str]):
    groups = case_collisions(names)
    assert sorted(name for group in groups for name in group) == sorted(
        {name for name in names if any(folded(name) == folded(other) and name != other for other in names)}
    )
    for group in groups:
        assert len({folded(name) for name in group}) == 1


@given(st.text())
def test_folding_is_idempotent(name: str):
    assert folded(folded(name)) == folded(name)
