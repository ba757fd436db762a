"""`artfs audit`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import click

from artfs.cli.common import App, artfs_command, json_option, pass_app
from artfs.cli.output import emit_json, local_time, say, table
from artfs.cli.servers import Row, database_option, open_books
from artfs.cli.targets import parse_project
from artfs.errors import InvalidArgumentError
from artfs.model.access import AuditFilter
from artfs.model.names import parse_time
from artfs.model.ttl import parse_ttl

_PAGE = 1000


@artfs_command("audit")
@click.argument("place", required=False, metavar="[PROJECT]")
@click.option("--by", "actor", metavar="TOKEN", help="Only what this token did, by its name.")
@click.option("--action", metavar="ACTION", help="Only this kind of change: commit, delete_version, token.create …")
@click.option("--since", metavar="WHEN", help="Only from then on: a time before now (7d), or a date.")
@click.option("-n", "--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="At most so many.")
@database_option
@json_option
@pass_app
def command(
    app: App, place: str | None, actor: str | None, action: str | None, since: str | None, limit: int, database: str | None
) -> None:
    """Show who changed what on a server.

    The newest first; of one PROJECT, or of all. As for `artfs token`, of the server that `artfs login` named, or of a
    database.

    \b
    Examples:
      artfs audit
      artfs audit vision --since 7d --by ann
      artfs audit --action delete_version -n 1000 --json
    """
    entity, project = (None, None) if place is None else parse_project(place, app.settings)
    which = AuditFilter(actor, action, entity, project, since=None if since is None else _since(since))
    rows: list[Row] = []
    with open_books(app, database) as books:
        while len(rows) < limit:
            wanted = min(_PAGE, limit - len(rows))
            page = books.audit(which, rows[-1]["id"] if rows else None, wanted)
            rows += page
            if len(page) < wanted:
                break
    if app.json:
        emit_json(rows)
        return
    if not rows:
        say("nothing was changed")
    table(
        ["WHEN", "WHO", "DID", "WHERE", "TO", "HOW"],
        [
            [
                local_time(row["at"]), row["actor"], row["action"], "/".join(filter(None, (row["entity"], row["project"]))),
                row["target"], json.dumps(row["detail"], ensure_ascii=False) if row["detail"] else "",
            ]
            for row in rows
        ],
    )


def _since(text: str) -> datetime:
    if text[:4].isdigit() and "-" in text:
        moment = parse_time(text)
        # A date alone means its end elsewhere; here it means its beginning.
        return moment if "T" in text else datetime.fromisoformat(text).replace(tzinfo=UTC)
    policy = parse_ttl(text)
    if not isinstance(policy, timedelta):
        raise InvalidArgumentError(f"bad time {text!r}: write a time before now, such as 7d, or a date")
    return datetime.now(UTC) - policy
