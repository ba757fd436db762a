"""An artifact in a notebook. Everything in it may have been written by somebody else, and is escaped."""

from __future__ import annotations

from html import escape

from artfs.api.draft import DraftArtifact
from artfs.api.version import LoggedArtifact, time_text

_SHOWN_FILES = 10
_SHOWN_CHARACTERS = 500


def artifact_html(state: DraftArtifact | LoggedArtifact) -> str:
    """A table of what is known of it, and its first files. Of a version it reads the few tree pages these are in."""
    rows = [("type", state.type if isinstance(state, DraftArtifact) else state.member.version.type)]
    if isinstance(state, DraftArtifact):
        title = f"{state.name} (draft)"
        count = len(state.items)
    else:
        version = state.member.version
        title = state.member.qualified_name
        count = version.file_count
        rows += [
            ("aliases", ", ".join(state.aliases)),
            ("tags", ", ".join(state.tags)),
            ("state", state.state),
            ("created", time_text(version.created_at)),
            ("digest", version.digest),
        ]
    size = state.size if isinstance(state, DraftArtifact) else state.member.version.size
    rows += [("files", f"{count:,}"), ("size", f"{size:,} bytes"), ("description", state.description or "")]
    rows += [(f"metadata {key}", str(value)) for key, value in list(state.metadata.items())[:_SHOWN_FILES]]
    lines = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(text[:_SHOWN_CHARACTERS])}</td></tr>" for name, text in rows if text
    )
    shown = "".join(f"<li>{escape(path)}</li>" for path, _ in zip(state.manifest, range(_SHOWN_FILES), strict=False))
    more = f"<li>… and {count - _SHOWN_FILES:,} more</li>" if count > _SHOWN_FILES else ""
    return f"<h4>{escape(title)}</h4><table>{lines}</table><ul>{shown}{more}</ul>"
