"""Bokeh: a plot."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from artfs.api.media.content import InMemory, LocalFile
from artfs.api.media.extras import need
from artfs.api.media.fields import bad
from artfs.api.media.filevalue import FileValue

_NUMBERED = re.compile(r"p\d+\Z")


class Bokeh(FileValue):
    """A plot of Bokeh's, as the JSON of its document."""

    kind = "bokeh-file"
    folder = "media/bokeh"

    def __init__(self, data_or_path: Any) -> None:
        """`data_or_path`: a model (a figure, a layout), a document, or a file that holds a document's JSON.

        Raises InvalidArgumentError for a missing file, TypeError, MissingExtraError.
        """
        if isinstance(data_or_path, str | os.PathLike):
            with LocalFile(data_or_path).open() as stream:
                data = stream.read()
            super().__init__(InMemory(data), ".bokeh.json")
            return
        document = need("bokeh.document", "a Bokeh plot").Document
        if isinstance(data_or_path, need("bokeh.model", "a Bokeh plot").Model):
            if data_or_path.document is None:
                made = document()
                made.add_root(data_or_path)
                given = made.to_json(deferred=False)
                made.remove_root(data_or_path)
            else:
                given = data_or_path.document.to_json(deferred=False)
        elif isinstance(data_or_path, document):
            given = data_or_path.to_json(deferred=False)
        else:
            raise TypeError(f"a Bokeh is made of a model, a document or a file, not {type(data_or_path).__name__}")
        text = json.dumps(renumbered(given), separators=(",", ":"))
        super().__init__(InMemory(text.encode()), ".bokeh.json")

    @property
    def b_obj(self) -> Any:
        """The document, made anew. Raises BadObjectError when it is no JSON, MissingExtraError."""
        document = need("bokeh.document", "reading a Bokeh plot").Document
        try:
            given = json.loads(self.read())
        except (ValueError, RecursionError):
            raise bad("the document of this plot is no JSON") from None
        return document.from_json(given)


def renumbered(given: Any) -> Any:
    """The document with its models numbered in the order in which they stand there.

    Bokeh counts the models of a process, so the same plot would be another content in each.
    """
    numbers: dict[str, str] = {}

    def walk(part: Any) -> Any:
        if isinstance(part, dict):
            return {
                key: numbers.setdefault(value, f"p{1000 + len(numbers)}")
                if key == "id" and isinstance(value, str) and _NUMBERED.match(value)
                else walk(value)
                for key, value in part.items()
            }
        return [walk(value) for value in part] if isinstance(part, list) else part

    return walk(given)
