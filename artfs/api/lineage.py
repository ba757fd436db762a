"""Where versions come from and go to: the graph of versions and the runs that logged and used them, and its drawings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from artfs.catalog.base import Catalog
from artfs.model.records import Member, RunRecord


@dataclass(frozen=True, slots=True)
class Node:
    """A version or a run.

    Attributes:
        key: unique in the graph: the version's qualified name where it was logged, or "run/ID".
        label: for people: PROJECT/COLLECTION:vN, or the run's name.
        note: what else is shown: type and aliases, or the kind of job and the id.
    """

    key: str
    is_run: bool
    label: str
    note: str


@dataclass(frozen=True)
class Lineage:
    """A graph without cycles among versions that came one after the other; a run that uses what it logged is one.

    Attributes:
        focus: the key of the version that was asked about.
        nodes: by key, in the order in which they were found.
        edges: (from, to) in the direction in which data flows: version → run that used it, run → version it logged.
    """

    focus: str
    nodes: dict[str, Node]
    edges: tuple[tuple[str, str], ...]

    def inputs(self, key: str) -> list[str]:
        return [source for source, target in self.edges if target == key]

    def outputs(self, key: str) -> list[str]:
        return [target for source, target in self.edges if source == key]

    # drawings -------------------------------------------------------------------------------------

    def text(self) -> str:
        """Two trees, of what it was made from and of what was made from it; what was drawn already is cut short by "…"."""
        focus = self.nodes[self.focus]
        lines = [f"{focus.label} ({focus.note})"]
        for title, walk, arrow in (("made from", self.inputs, "←"), ("went into", self.outputs, "→")):
            if walk(self.focus):
                lines += ["", f"{title}:"]
                drawn = {self.focus}
                lines += self._branches(self.focus, walk, arrow, "", drawn)
        return "\n".join(lines) + "\n"

    def _branches(self, key: str, walk: object, arrow: str, indent: str, drawn: set[str]) -> Iterator[str]:
        assert callable(walk)
        below = walk(key)
        for number, other in enumerate(below, 1):
            last = number == len(below)
            node = self.nodes[other]
            cut = other in drawn and bool(walk(other))
            yield f"{indent}{'└' if last else '├'}─{arrow} {node.label} ({node.note}){' …' if cut else ''}"
            if not cut:
                drawn.add(other)
                yield from self._branches(other, walk, arrow, indent + ("   " if last else "│  "), drawn)

    def dot(self) -> str:
        """For Graphviz."""
        lines = ["digraph lineage {", "  rankdir=LR;", '  node [fontname="sans-serif", fontsize=11];']
        for node in self.nodes.values():
            shape = "ellipse" if node.is_run else "box"
            bold = ", penwidth=2" if node.key == self.focus else ""
            label = f"{_quoted(node.label)}\\n{_quoted(node.note)}"
            lines.append(f'  "{_quoted(node.key)}" [label="{label}", shape={shape}{bold}];')
        lines += [f'  "{_quoted(source)}" -> "{_quoted(target)}";' for source, target in self.edges]
        return "\n".join([*lines, "}"]) + "\n"

    def svg(self) -> str:
        """A drawing by itself: data flows from left to right. Text is escaped."""
        place = self._places()
        right = max(x for x, _ in place.values()) + _WIDTH + _MARGIN
        bottom = max(y for _, y in place.values()) + _HEIGHT + _MARGIN
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{right}" height="{bottom}" viewBox="0 0 {right} {bottom}" '
            'font-family="sans-serif" font-size="12">',
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
            '<path d="M0 0 L8 4 L0 8 z" fill="#666"/></marker></defs>',
        ]
        for source, target in self.edges:
            (x, y), (to_x, to_y) = place[source], place[target]
            x, y, to_y = x + _WIDTH, y + _HEIGHT // 2, to_y + _HEIGHT // 2
            bend = max(30, (to_x - x) // 2)
            parts.append(
                f'<path d="M{x} {y} C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}" fill="none" stroke="#666" '
                'marker-end="url(#arrow)"/>'
            )
        for node in self.nodes.values():
            x, y = place[node.key]
            fill, round_ = ("#eef4fb", _HEIGHT // 2) if node.is_run else ("#fdf6e3", 4)
            line = 2.5 if node.key == self.focus else 1
            parts.append(
                f'<g><title>{escape(node.key)}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" '
                f'rx="{round_}" fill="{fill}" stroke="#333" stroke-width="{line}"/>'
                f'<text x="{x + _WIDTH // 2}" y="{y + 18}" text-anchor="middle">{escape(_cut(node.label))}</text>'
                f'<text x="{x + _WIDTH // 2}" y="{y + 34}" text-anchor="middle" fill="#666">{escape(_cut(node.note))}</text></g>'
            )
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _repr_svg_(self) -> str:
        return self.svg()

    def _places(self) -> dict[str, tuple[int, int]]:
        """The upper left corner of each node, in pixels: columns by the longest way from a beginning, rows as found."""
        column = dict.fromkeys(self.nodes, 0)
        # A graph of n nodes without cycles is settled after n rounds; what is in a cycle is then where it is.
        for _ in self.nodes:
            moved = False
            for source, target in self.edges:
                if column[target] <= column[source] < len(self.nodes):
                    column[target] = column[source] + 1
                    moved = True
            if not moved:
                break
        rows: dict[int, int] = {}
        places = {}
        used = {number: rank for rank, number in enumerate(sorted(set(column.values())))}
        for key in self.nodes:
            across = used[column[key]]
            down = rows.get(across, 0)
            rows[across] = down + 1
            places[key] = (_MARGIN + across * (_WIDTH + _GAP), _MARGIN + down * (_HEIGHT + _MARGIN))
        return places


_WIDTH, _HEIGHT, _GAP, _MARGIN = 190, 44, 60, 16


def _cut(text: str) -> str:
    return text if len(text) <= 28 else f"{text[:27]}…"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def trace(catalog: Catalog, version_id: int, *, depth: int | None = None) -> Lineage:
    """The graph around a version: upstream what it was made from, downstream what was made from it.

    `depth`: how many runs to go in either direction; None: all the way. Deleted versions are not in it. Raises NotFoundError.
    """
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], None] = {}
    start = catalog.memberships(version_id)[0]
    focus = _add_version(nodes, start)
    for upstream in (True, False):
        seen = {version_id}
        here = [start]
        level = 0
        while here and (depth is None or level < depth):
            level += 1
            beyond: list[Member] = []
            for member in here:
                own = _add_version(nodes, member)
                found = catalog.logged_by(member.version.id) if upstream else catalog.used_by(member.version.id)
                for run in found:
                    key = _add_run(nodes, run)
                    edges[(key, own) if upstream else (own, key)] = None
                    for other in catalog.versions_of_run(run.id, used=upstream):
                        name = _add_version(nodes, other)
                        edges[(name, key) if upstream else (key, name)] = None
                        if other.version.id not in seen:
                            seen.add(other.version.id)
                            beyond.append(other)
            here = beyond
    return Lineage(focus, nodes, tuple(edges))


def _add_version(nodes: dict[str, Node], member: Member) -> str:
    key = member.qualified_name
    if key not in nodes:
        note = ", ".join([member.version.type, *member.aliases])
        nodes[key] = Node(key, False, f"{member.project}/{member.name}", note)
    return key


def _add_run(nodes: dict[str, Node], run: RunRecord) -> str:
    key = f"run/{run.id}"
    if key not in nodes:
        note = f"{run.job_type} {run.id}" if run.job_type else f"run {run.id}"
        nodes[key] = Node(key, True, run.name, note)
    return key
