"""Html: a page."""

from __future__ import annotations

import os
import re
from typing import TextIO

from artfs.api.media.content import InMemory, LocalFile
from artfs.api.media.filevalue import FileValue

_HEAD = (
    '<base target="_blank"><style>body{margin:8px;font-family:system-ui,sans-serif;line-height:1.4}</style>'
)
_INTO_HEAD = re.compile(r"<head(\s[^>]*)?>", re.IGNORECASE)
_INTO_HTML = re.compile(r"<html(\s[^>]*)?>", re.IGNORECASE)


class Html(FileValue):
    """A page. What is in it is shown as it is: add none that you do not trust to a page of your own."""

    kind = "html-file"
    folder = "media/html"

    def __init__(
        self,
        data: str | os.PathLike[str] | TextIO,
        inject: bool = True,
        data_is_not_path: bool = False,
    ) -> None:
        """Arguments:
            data: HTML, a stream of it, or a file.
            inject: puts in a small style sheet, and has links open in a new window.
            data_is_not_path: text is HTML even if a file has this name.
        Raises InvalidArgumentError for a missing file; StorageError.
        """
        if isinstance(data, str):
            text = data if data_is_not_path or not _is_file(data) else _read(data)
        elif isinstance(data, os.PathLike):
            text = _read(data)
        else:
            text = data.read()
        super().__init__(InMemory((with_head(text) if inject else text).encode()), ".html")

    @property
    def html(self) -> str:
        """The page, as it is stored."""
        return self.read().decode(errors="replace")


def _is_file(text: str) -> bool:
    return len(text) < 4096 and "\0" not in text and os.path.isfile(text)


def _read(path: str | os.PathLike[str]) -> str:
    with LocalFile(path).open() as stream:
        return stream.read().decode()


def with_head(text: str) -> str:
    """The page with what `inject` puts in: into its head, if it has one."""
    found = _INTO_HEAD.search(text)
    if found:
        return text[: found.end()] + _HEAD + text[found.end() :]
    found = _INTO_HTML.search(text)
    if found:
        return f"{text[: found.end()]}<head>{_HEAD}</head>{text[found.end() :]}"
    return _HEAD + text
