"""What an upload leaves out: leftovers of editors and file managers, and what the user's `.artfsignore` says,
by the rules of gitignore(5)."""

from __future__ import annotations

import re
from typing import Self

from pathspec import GitIgnoreSpec

from artfs.errors import InvalidNameError

IGNORE_FILE = ".artfsignore"
"""Name of the file at the root of a pushed folder or a draft that holds rules. It does not become part of the
version."""

DEFAULT_RULES = (
    f"/{IGNORE_FILE}",
    ".DS_Store",
    "Thumbs.db",
    "*.swp",
    "*.swo",
    "*~",
    ".#*",
    ".nfs*",
    ".fuse_hidden*",
)


class IgnoreRules:
    """Rules in the order in which they were given; of those that match, the last one decides."""

    def __init__(self, spec: GitIgnoreSpec) -> None:
        self._spec = spec

    @classmethod
    def none(cls) -> Self:
        """Rules that ignore nothing."""
        return cls(GitIgnoreSpec.from_lines([]))

    @property
    def ignores_nothing(self) -> bool:
        return len(self._spec) == 0

    @classmethod
    def defaults(cls) -> Self:
        """DEFAULT_RULES alone."""
        return cls(GitIgnoreSpec.from_lines(DEFAULT_RULES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """DEFAULT_RULES and then those of `text`, one a line; `!rule` brings back what an earlier rule
        ignores, except below a directory that stays ignored. Blank lines and those that begin with `#` are
        skipped.

        Raises InvalidNameError that names the line of a rule that cannot be understood.
        """
        lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
        try:
            return cls(GitIgnoreSpec.from_lines([*DEFAULT_RULES, *(line for line in lines if line.strip())]))
        except (ValueError, re.error):
            for number, line in enumerate(lines, 1):
                try:
                    GitIgnoreSpec.from_lines([line])
                except (ValueError, re.error) as error:
                    raise InvalidNameError(
                        f"{IGNORE_FILE}, line {number}: cannot understand the rule {line!r} ({error})"
                    ) from None
            raise

    def ignores(self, path: str, is_dir: bool) -> bool:
        """Whether what is at `path` (relative to the root, "/" between components) is left out. What is in an
        ignored directory is ignored, too, so a walker need not enter it."""
        return self._spec.match_file(path + "/" if is_dir else path)
