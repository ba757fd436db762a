"""The graph of versions and runs, and its drawings."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from artfs.api.begin import init
from artfs.api.lineage import Lineage, Node, trace
from artfs.api.public import Api
from artfs.api.session import Session
from artfs.errors import NotFoundError
from artfs.testing.catalog_contract.making import new

pytestmark = pytest.mark.embedded("commits trees that no server has")


def log(session: Session, name: str, run_id: str | None = None, content: object = None) -> int:
    """A version of the collection, by its id."""
    made = session.catalog.commit(new(content or name, name, entity="local", project="p", run_id=run_id))
    return made.member.version.id


def work(session: Session, name: str, uses: list[int], logs: list[str]) -> list[int]:
    """A run that uses versions and logs others."""
    with init(project="p", name=name) as run:
        for version in uses:
            session.catalog.record_use(run.id, version)
        return [log(session, collection, run.id) for collection in logs]


@pytest.fixture
def chain(session: Session) -> dict[str, int]:
    """raw → clean → (features, stats); features + labels → model → report."""
    raw, labels = log(session, "raw"), log(session, "labels")
    (clean,) = work(session, "cleaning", [raw], ["clean"])
    features, stats = work(session, "extraction", [clean], ["features", "stats"])
    (model,) = work(session, "training", [features, labels], ["model"])
    (report,) = work(session, "reporting", [model, stats], ["report"])
    return {"raw": raw, "clean": clean, "features": features, "labels": labels, "model": model, "stats": stats, "report": report}


def names(graph: Lineage) -> set[str]:
    return {node.label.removeprefix("p/").removesuffix(":v0") for node in graph.nodes.values()}


@pytest.mark.parametrize(
    ("start", "depth", "found"),
    [
        ("raw", None, "raw cleaning clean extraction features stats training model reporting report"),
        ("raw", 1, "raw cleaning clean"),
        ("features", None, "features extraction clean cleaning raw training model reporting report"),
        ("model", 1, "model training features labels reporting report"),
        ("labels", None, "labels training model reporting report"),
        ("report", 1, "report reporting model stats"),
    ],
)
def test_what_is_in_the_graph(session: Session, chain: dict[str, int], start: str, depth: int | None, found: str) -> None:
    graph = trace(session.catalog, chain[start], depth=depth)
    assert names(graph) - {"stats"} == set(found.split()) - {"stats"}
    assert graph.nodes[graph.focus].label == f"p/{start}:v0"
    assert all({source, target} <= set(graph.nodes) for source, target in graph.edges)
    assert all(graph.nodes[source].is_run != graph.nodes[target].is_run for source, target in graph.edges)


def test_directions(session: Session, chain: dict[str, int]) -> None:
    graph = trace(session.catalog, chain["model"])
    (maker,) = graph.inputs(graph.focus)
    assert graph.nodes[maker].label == "training"
    assert sorted(graph.inputs(maker)) == ["local/p/features:v0", "local/p/labels:v0"]
    assert [graph.nodes[user].label for user in graph.outputs(graph.focus)] == ["reporting"]


def test_deleted_versions_and_links(session: Session, chain: dict[str, int]) -> None:
    link = session.catalog.link(chain["model"], "local", "p", "approved")
    with init(project="p", name="serving") as run:
        session.catalog.record_use(run.id, link.version.id)
    labels = session.catalog.memberships(chain["labels"])[0]
    session.catalog.delete_version(labels.id, delete_aliases=True)
    graph = trace(session.catalog, link.version.id)
    assert "serving" in names(graph)
    assert "labels" not in names(graph)
    with pytest.raises(NotFoundError):
        trace(session.catalog, 10**6)


def test_text(session: Session, chain: dict[str, int]) -> None:
    text = re.sub(r"run [a-z0-9]{8}", "run", trace(session.catalog, chain["model"], depth=2).text())
    assert text == (
        "p/model:v0 (dataset, latest)\n"
        "\n"
        "made from:\n"
        "└─← training (run)\n"
        "   ├─← p/labels:v0 (dataset, latest)\n"
        "   └─← p/features:v0 (dataset, latest)\n"
        "      └─← extraction (run)\n"
        "         └─← p/clean:v0 (dataset, latest)\n"
        "\n"
        "went into:\n"
        "└─→ reporting (run)\n"
        "   └─→ p/report:v0 (dataset, latest)\n"
    )


def test_text_of_what_joins_again_is_cut_short(session: Session) -> None:
    root = log(session, "root")
    left, right = (work(session, name, [root], [name])[0] for name in ("left", "right"))
    (end,) = work(session, "joining", [left, right], ["end"])
    text = trace(session.catalog, end).text()
    assert text.count("p/root:v0") == 2
    loop = Lineage("a", {k: Node(k, k == "r", k, "n") for k in "ar"}, (("a", "r"), ("r", "a")))
    assert loop.text().count("…") == 2
    assert loop.svg().count("<rect") == 2


HOSTILE = 'x"><script>&\\"'


def test_dot_and_svg_quote_what_people_wrote(session: Session) -> None:
    source = log(session, "raw")
    (end,) = work(session, HOSTILE, [source], ["end"])
    graph = trace(session.catalog, end)
    dot = graph.dot()
    assert 'label="x\\"><script>&\\\\\\"' in dot
    assert dot.count("->") == 2
    drawn = ElementTree.fromstring(graph.svg())
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert HOSTILE in texts
    assert not list(drawn.iter("{http://www.w3.org/2000/svg}script"))
    assert graph._repr_svg_() == graph.svg()


def test_the_api_gives_it(session: Session, chain: dict[str, int]) -> None:
    api = Api({"project": "p"})
    assert api.lineage("model").text() == trace(session.catalog, chain["model"]).text()
    assert names(api.lineage("local/p/raw:v0", depth=1)) == {"raw", "cleaning", "clean"}
    with pytest.raises(NotFoundError):
        api.lineage("nothing")


def test_svg_goes_from_left_to_right(session: Session, chain: dict[str, int]) -> None:
    graph = trace(session.catalog, chain["features"])
    drawn = ElementTree.fromstring(graph.svg())
    space = "{http://www.w3.org/2000/svg}"
    places = {}
    for group in drawn.iter(f"{space}g"):
        title, box = group.find(f"{space}title"), group.find(f"{space}rect")
        assert title is not None
        assert title.text is not None
        assert box is not None
        places[title.text] = (int(box.attrib["x"]), int(box.attrib["y"]))
    assert set(places) == set(graph.nodes)
    assert all(places[source][0] < places[target][0] for source, target in graph.edges)
    assert len(set(places.values())) == len(places)
