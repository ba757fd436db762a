"""A server's catalog that remembers names."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from artfs.client.http import PROBE_S
from artfs.client.memory import RememberingCatalog
from artfs.client.reach import RETRY_S, Reach
from artfs.errors import NotFoundError, OfflineError, UnavailableError
from artfs.model.records import Collection, Member, Project, Version
from artfs.wire.bodies import EventData
from artfs.wire.routes import Route

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PROJECT = Project(1, "e", "p", NOW)
COLLECTION = Collection(7, "e", "p", "c", "dataset", "sequence", None, (), NOW, NOW)
VERSION = Version(
    3, "e", "p", "c", 0, "dataset", "COMMITTED", "ab" * 32, 5, 1, None, {"a": [1, None]}, ("t",), NOW, NOW, None, None
)
MEMBER = Member(4, 7, "e", "p", "c", 0, ("latest",), VERSION, NOW)


class FakeHttp:
    """Answers by the name of the call; counts; may be away."""

    base_url = "https://server"

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.away = False
        self.newest = 5
        self.members = [MEMBER]
        self.during: Callable[[], None] = lambda: None
        self.on_change: Callable[[int], None] = lambda number: None
        self.limits: list[float] = []

    def call(
        self, route: Route, arguments: Mapping[str, Any] | None = None, query: Any = None, body: Any = None
    ) -> Any:
        self.counts[route.name] += 1
        if self.away:
            raise UnavailableError("the server does not answer")
        self.during()
        match route.name:
            case "change_token":
                return type("Hello", (), {"newest": self.newest})
            case "projects":
                return [PROJECT]
            case "collections":
                return [COLLECTION]
            case "try_collection":
                return COLLECTION
            case "members":
                return list(self.members)
            case "resolve":
                assert arguments is not None
                if query.alias != "latest":
                    raise NotFoundError("no such alias")
                return MEMBER
        raise AssertionError(route.name)

    @contextmanager
    def within(self, limit_s: float) -> Iterator[None]:
        self.limits.append(limit_s)
        yield

    def close(self) -> None:
        """Nothing is open."""


class Events:
    """Stands in for the thread of events."""

    is_connected = True

    def close(self) -> None:
        """There is no thread."""


@pytest.fixture
def http() -> FakeHttp:
    return FakeHttp()


@pytest.fixture
def catalog(http: FakeHttp, tmp_path: Path) -> Iterator[RememberingCatalog]:
    with RememberingCatalog(http, tmp_path / "names.db", Reach("https://server"), poll_s=1000.0) as made:
        yield made


def listening(catalog: RememberingCatalog) -> None:
    catalog._events = Events()  # type: ignore[assignment]


def test_without_events_each_call_asks(catalog: RememberingCatalog, http: FakeHttp) -> None:
    for _ in range(2):
        assert catalog.members(7) == [MEMBER]
    assert http.counts["members"] == 2


def test_with_events_names_are_asked_for_once(catalog: RememberingCatalog, http: FakeHttp) -> None:
    listening(catalog)
    for _ in range(3):
        assert catalog.projects("e") == [PROJECT]
        assert catalog.collections("e", "p") == [COLLECTION]
        assert catalog.members(7) == [MEMBER]
        assert catalog.resolve("e", "p", "c", "latest") == MEMBER
    assert set(http.counts.values()) == {1}


def test_what_a_listing_has_is_not_asked_for_by_name(catalog: RememberingCatalog, http: FakeHttp) -> None:
    """Looking into a collection far away asks three things one after the other, not five."""
    listening(catalog)
    catalog.projects("e")
    assert catalog.try_project("e", "p") == PROJECT
    catalog.collections("e", "p")
    assert catalog.try_collection("e", "p", "c") == COLLECTION
    assert http.counts == {"projects": 1, "collections": 1}
    # What it has not may have come, or be somebody else's.
    assert catalog.try_collection("e", "p", "d") == COLLECTION
    assert http.counts["try_collection"] == 1
    catalog._changed(EventData("e", "p", "c"))
    catalog.try_collection("e", "p", "c")
    assert http.counts["try_collection"] == 2


def test_memory_has_an_end(catalog: RememberingCatalog, http: FakeHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for longest ago goes first, and is in the file without a network."""
    monkeypatch.setattr("artfs.client.memory._IN_MEMORY", 5)
    listening(catalog)
    for number in range(20):
        assert catalog.members(number) == [MEMBER]
    assert len(catalog._answers) == 5
    for number in range(15, 20):
        catalog.members(number)
    assert http.counts["members"] == 20
    catalog.members(3)
    assert http.counts["members"] == 21
    http.away = True
    assert catalog.members(0) == [MEMBER]


@pytest.mark.parametrize(
    ("place", "asked_again"),
    [
        (EventData("e", "p", "c"), {"projects", "collections", "members", "resolve"}),
        (EventData("e", "p", None), {"projects", "collections", "members", "resolve"}),
        (EventData("e", "p", "other"), {"projects", "collections"}),
        (EventData("e", "other", None), {"projects"}),
        (EventData("other", None, None), set()),
        (None, {"projects", "collections", "members", "resolve"}),
    ],
)
def test_an_event_has_what_it_touches_asked_for_again(
    catalog: RememberingCatalog, http: FakeHttp, place: EventData | None, asked_again: set[str]
) -> None:
    listening(catalog)

    def ask() -> None:
        catalog.projects("e")
        catalog.collections("e", "p")
        catalog.members(7)
        catalog.resolve("e", "p", "c", "latest")

    ask()
    token = catalog.change_token()
    catalog._changed(place)
    assert catalog.change_token() != token
    ask()
    assert {name for name, count in http.counts.items() if count == 2} == asked_again


def test_what_changes_while_it_is_read_is_read_again(catalog: RememberingCatalog, http: FakeHttp) -> None:
    listening(catalog)
    http.during = lambda: catalog._changed(None)
    catalog.members(7)
    http.during = lambda: None
    http.members = []
    assert catalog.members(7) == []


def test_away_it_gives_what_was_seen(catalog: RememberingCatalog, http: FakeHttp) -> None:
    assert catalog.resolve("e", "p", "c", "latest") == MEMBER
    catalog.members(7)
    http.away = True
    assert catalog.resolve("e", "p", "c", "latest") == MEMBER
    assert catalog.members(7) == [MEMBER]
    assert http.limits == [PROBE_S, PROBE_S]  # nobody waits long when there is something to go on with
    with pytest.raises(UnavailableError):
        catalog.members(8)
    with pytest.raises(UnavailableError):
        catalog.set_aliases(4, add=["x"])


def test_what_was_seen_outlives_the_process(catalog: RememberingCatalog, http: FakeHttp, tmp_path: Path) -> None:
    catalog.members(7)
    catalog.resolve("e", "p", "c", "latest")
    catalog.close()
    http.away = True
    with RememberingCatalog(http, tmp_path / "names.db", Reach("https://server"), poll_s=1000.0) as again:
        assert again.members(7) == [MEMBER]
        assert again.resolve("e", "p", "c", "latest") == MEMBER
    assert (tmp_path / "names.db").stat().st_mode & 0o777 == 0o600


def test_metadata_of_any_numbers_can_be_remembered(catalog: RememberingCatalog, http: FakeHttp, tmp_path: Path) -> None:
    version = replace(VERSION, metadata={"large": 10**30, "small": -(2**70), "real": 1.0})
    http.members = [replace(MEMBER, version=version)]
    assert catalog.members(7) == http.members
    catalog.close()
    http.away = True
    with RememberingCatalog(http, tmp_path / "names.db", Reach("https://server"), poll_s=1000.0) as again:
        assert repr(again.members(7)) == repr(http.members)


def test_what_is_not_found_is_not_remembered_as_there(catalog: RememberingCatalog, http: FakeHttp) -> None:
    listening(catalog)
    for _ in range(2):
        with pytest.raises(NotFoundError):
            catalog.resolve("e", "p", "c", "none")


@pytest.mark.parametrize("damage", [b"rubbish" * 1000, b""])
def test_a_damaged_file_is_made_anew(http: FakeHttp, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "names.db").write_bytes(damage)
    with RememberingCatalog(http, tmp_path / "names.db", Reach("https://server"), poll_s=1000.0) as catalog:
        assert catalog.members(7) == [MEMBER]


def test_without_events_the_token_is_polled(http: FakeHttp, tmp_path: Path) -> None:
    with RememberingCatalog(http, tmp_path / "names.db", Reach("https://server"), poll_s=0.0) as catalog:
        first = catalog.change_token()
        assert catalog.change_token() == first
        http.newest += 1
        assert catalog.change_token() != first
        http.away = True
        catalog.change_token()  # raises nothing


def test_names_that_were_listed_can_be_looked_up_without_a_network(http: FakeHttp, tmp_path: Path) -> None:
    """As a mount lists, and a command line looks up."""
    path = tmp_path / "names.db"
    with RememberingCatalog(http, path, Reach("https://server"), poll_s=1000.0) as catalog:
        catalog.projects("e")
        catalog.collections("e", "p")
        catalog.members(7)
    http.away = True
    with RememberingCatalog(http, path, Reach("https://server"), poll_s=1000.0) as catalog:
        assert catalog.try_project("e", "p") == PROJECT
        assert catalog.try_collection("e", "p", "c") == COLLECTION
        assert catalog.resolve("e", "p", "c", "latest") == catalog.resolve("e", "p", "c", "v0") == MEMBER
        for look in (
            lambda: catalog.try_project("e", "q"), lambda: catalog.try_collection("e", "p", "d"),
            lambda: catalog.resolve("e", "p", "c", "best"), lambda: catalog.resolve("e", "p", "d", "latest"),
        ):
            with pytest.raises(UnavailableError):
                look()


# whether it can be reached
def test_reach() -> None:
    now = [100.0]
    moves: list[tuple[bool, str]] = []
    reach = Reach("https://server", patience_s=10.0, clock=lambda: now[0])
    returns: list[float] = []
    reach.on_move = lambda is_online, what: moves.append((is_online, what))
    reach.on_return = lambda: returns.append(now[0])
    reach.contact(True, "")
    reach.contact(False, "reset")
    reach.contact(True, "")
    assert (moves, returns) == ([], [100.0])  # that was too short to be told
    assert not reach.gate()
    reach.contact(False, "refused")
    assert reach.is_troubled and not reach.is_away
    assert not reach.gate()  # it may be a short trouble
    now[0] += 9
    reach.contact(False, "refused")
    now[0] += 1
    assert reach.is_away and reach.reason == "refused" and reach.away_for_s == 10.0
    with pytest.raises(OfflineError, match=r"for 10 s: refused"):
        reach.gate()
    now[0] += RETRY_S
    assert reach.gate()  # this one may try
    with pytest.raises(OfflineError):
        reach.gate()
    reach.contact(False, "refused")
    reach.contact(True, "")
    assert not reach.is_away and not reach.is_troubled and reach.away_for_s == 0.0
    assert not reach.gate()
    assert moves == [(False, "refused"), (True, "")]
    assert len(returns) == 2
    reach.is_listening = lambda: True
    reach.heard_at = lambda: now[0] - 1
    reach.contact(False, "refused")
    assert reach.is_troubled
    now[0] += 100
    assert not reach.is_away  # events come, so one call was slow
    assert not reach.gate()
    reach.heard_at = lambda: 0.0
    assert reach.is_away  # nothing has come since, only nobody has said that the connection is lost


def test_reach_after_the_end() -> None:
    reach = Reach("https://server")
    reach.close()
    reach.contact(False, "we ended it")
    assert not reach.is_troubled


def test_a_probe_measures() -> None:
    now = [0.0]
    reach = Reach("https://server", clock=lambda: now[0])

    def answer() -> None:
        now[0] += 0.25

    def refuse() -> None:
        answer()
        raise NotFoundError("no")

    def fail() -> None:
        raise UnavailableError("no answer")

    reach.probe(fail)
    assert reach.latency_s is None
    for ping in (answer, refuse):
        reach.latency_s = None
        reach.probe(ping)
        assert reach.latency_s == 0.25


def test_when_one_call_has_given_up_others_do_not_wait() -> None:
    now = [100.0]
    reach = Reach("https://server", patience_s=30.0, clock=lambda: now[0])
    reach.give_up()
    assert not reach.is_away  # nothing has failed
    reach.contact(False, "refused")
    assert not reach.is_away
    reach.give_up()
    with pytest.raises(OfflineError, match="refused"):
        reach.gate()
    reach.contact(True, "")
    reach.contact(False, "refused")
    assert not reach.is_away  # that is another trouble
