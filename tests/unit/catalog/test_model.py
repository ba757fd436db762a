"""Random operations on a catalog and on a model of it, which is a few dicts, give the same."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from artfs.catalog import open_catalog
from artfs.errors import AliasInUseError, NotFoundError
from artfs.testing.catalog_contract.making import E, P, at, digest, new

SEQUENCES = st.sampled_from(["a", "b"])
ALIASES = st.sets(st.sampled_from(["latest", "x", "y"]), max_size=2)
PICK = st.integers(0, 10**6)


@dataclass
class Place:
    """A collection: which version (its sequence and index) has which index, and what each alias names."""

    next_index: int = 0
    members: dict[int, tuple[str, int]] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)

    def join(self, version: tuple[str, int], aliases: set[str]) -> int:
        index = next((found for found, other in self.members.items() if other == version), None)
        if index is None:
            index = self.next_index
            self.next_index += 1
            self.members[index] = version
        self.aliases.update(dict.fromkeys(aliases | {"latest"}, index))
        return index

    def leave(self, index: int) -> None:
        del self.members[index]
        had_latest = self.aliases.get("latest") == index
        self.aliases = {alias: owner for alias, owner in self.aliases.items() if owner != index}
        if had_latest and self.members:
            self.aliases["latest"] = max(self.members)


def machine(template: Path) -> type[RuleBasedStateMachine]:
    class Comparison(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.folder = Path(tempfile.mkdtemp())
            self.catalog = open_catalog(shutil.copy(template, self.folder / "catalog.db"))
            self.places: dict[str, Place] = {}
            self.contents: dict[tuple[str, int], str] = {}
            self.latest_at: dict[str, list[tuple[str, int]]] = {}

        def teardown(self) -> None:
            self.catalog.close()
            shutil.rmtree(self.folder)

        def pick(self, number: int) -> tuple[str, int, int] | None:
            """Some member: its collection, index and id in the catalog."""
            there = [(name, index) for name, place in self.places.items() for index in place.members]
            if not there:
                return None
            name, index = there[number % len(there)]
            return name, index, self.catalog.resolve(E, P, name, f"v{index}").id

        @rule(name=SEQUENCES, content=st.sampled_from("123"), aliases=ALIASES)
        def commit(self, name: str, content: str, aliases: set[str]) -> None:
            place = self.places.setdefault(name, Place())
            done = self.catalog.commit(new(content, name, aliases=tuple(aliases)))
            latest = place.aliases.get("latest")
            if latest is not None and self.contents[name, latest] == content:
                assert not done.created
                place.aliases.update(dict.fromkeys(aliases, latest))
                return
            index = place.next_index
            self.contents[name, index] = content
            assert (done.created, done.member.index) == (True, place.join((name, index), aliases))
            self.latest_at.setdefault(name, []).append((at(done.member.created_at), index))

        @rule(number=PICK, add=ALIASES, remove=ALIASES)
        def set_aliases(self, number: int, add: set[str], remove: set[str]) -> None:
            if (picked := self.pick(number)) is None:
                return
            name, index, member_id = picked
            self.catalog.set_aliases(member_id, add=add, remove=remove)
            place = self.places[name]
            gone = {alias for alias in remove - add if place.aliases.get(alias) == index}
            place.aliases = {alias: owner for alias, owner in place.aliases.items() if alias not in gone}
            place.aliases.update(dict.fromkeys(add, index))

        @rule(number=PICK, aliases=ALIASES, portfolio=st.sampled_from(["p", "q"]))
        def link(self, number: int, aliases: set[str], portfolio: str) -> None:
            if (picked := self.pick(number)) is None:
                return
            name, index, member_id = picked
            version_id = self.catalog.member(member_id).version.id
            linked = self.catalog.link(version_id, E, P, portfolio, aliases)
            version = self.places[name].members[index]
            assert linked.index == self.places.setdefault(portfolio, Place()).join(version, aliases)

        @rule(number=PICK, delete_aliases=st.booleans())
        def delete(self, number: int, delete_aliases: bool) -> None:
            if (picked := self.pick(number)) is None:
                return
            name, index, member_id = picked
            if name in "pq":
                self.catalog.delete_version(member_id, delete_aliases=delete_aliases)
                self.places[name].leave(index)
                return
            everywhere = [
                (place, found)
                for place in self.places.values()
                for found, version in place.members.items()
                if version == (name, index)
            ]
            if not delete_aliases and any(found in place.aliases.values() for place, found in everywhere):
                with pytest.raises(AliasInUseError):
                    self.catalog.delete_version(member_id)
                return
            self.catalog.delete_version(member_id, delete_aliases=delete_aliases)
            for place, found in everywhere:
                place.leave(found)

        @invariant()
        def the_catalog_is_as_the_model(self) -> None:
            committed = set()
            for name, place in self.places.items():
                collection = self.catalog.try_collection(E, P, name)
                assert collection is not None
                found = self.catalog.members(collection.id)
                assert {member.index: (member.version.collection, member.version.source_index) for member in found} == (
                    place.members
                )
                assert {alias: member.index for member in found for alias in member.aliases} == place.aliases
                assert all(member.version.digest == digest(self.contents[place.members[member.index]]) for member in found)
                history = self.catalog.alias_history(collection.id)
                last = {alias: index for _, alias, index in history}
                assert {alias: index for alias, index in last.items() if index is not None} == place.aliases
                committed.update(digest(self.contents[version]) for version in place.members.values())
            assert set(self.catalog.live_roots()) == committed

        @rule(name=SEQUENCES)
        def look_back(self, name: str) -> None:
            for when, index in self.latest_at.get(name, []):
                if index in self.places[name].members:
                    assert self.catalog.resolve(E, P, name, when).index == index
                else:
                    with pytest.raises(NotFoundError, match="deleted since"):
                        self.catalog.resolve(E, P, name, when)

    return Comparison


def test_random_operations_agree_with_a_model(template: Path) -> None:
    run_state_machine_as_test(
        machine(template),
        settings=settings(
            max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
