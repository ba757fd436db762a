"""`artfs lineage`."""

from __future__ import annotations

from pathlib import Path

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.completion import complete_name
from artfs.cli.output import emit_json, escape, say
from artfs.cli.targets import parse_whole, resolve
from artfs.errors import StorageError


@artfs_command("lineage")
@click.argument("name", shell_complete=complete_name)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "dot", "svg"]),
    default="text",
    show_default=True,
    help="dot is for Graphviz, svg for browsers.",
)
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="So many runs in either direction.  [default: all]")
@click.option("-o", "--output", metavar="FILE", help="Write the drawing to this file.")
@json_option
@pass_app
def command(app: App, name: str, form: str, depth: int | None, output: str | None) -> None:
    """Draw what a version was made from, and what was made from it.

    Runs link versions: what a run used is what its output was made from. Boxes are versions, ellipses runs.

    \b
    Examples:
      artfs lineage vega/cars
      artfs lineage demo/minilm:prod --depth 1
      artfs lineage demo/minilm --format svg -o lineage.svg
    """
    from artfs.api.lineage import trace

    member = resolve(app.session, parse_whole(name, app.settings))
    found = trace(app.session.catalog, member.version.id, depth=depth)
    if app.json:
        emit_json(
            {
                "name": found.focus,
                "nodes": [
                    {"key": node.key, "kind": "run" if node.is_run else "version", "label": node.label, "note": node.note}
                    for node in found.nodes.values()
                ],
                "edges": [{"source": source, "target": target} for source, target in found.edges],
            }
        )
        return
    drawing = {"text": found.text, "dot": found.dot, "svg": found.svg}[form]()
    if output is None:
        for line in drawing.splitlines():
            say(escape(line))
        return
    try:
        Path(output).write_text(drawing, encoding="utf-8")
    except OSError as error:
        raise StorageError.wrap(error, f"writing {output}") from error
