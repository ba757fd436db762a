"""What an upload leaves out: leftovers of editors and file managers, and what the user's `.artfsignore` says,
by the rules of gitignore(5)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Self

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

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

MOST_DOUBLE_STARS = 4
"""Of one rule. Each multiplies the time of a match by the depth of the path."""

_STAR = r"\[\^/\]\*"
_STARS = re.compile(f"(?:{_STAR}){{2,}}")
_NEGATED = re.compile(r"(?<!\\)\[\^(?![/\]])")
_CHUNK = re.compile(rf"{_STAR}((?:(?!{_STAR})(?:\\.|\[\^?\]?[^\]]*\]|[^/\\\[\]()|?*+]))+)(?={_STAR})")


class _Pattern(GitIgnoreSpecPattern):
    """One rule. With many stars in a name Python's regular expressions try each place of each of them: a rule of a dozen takes
    minutes, and holds up all threads. But what is between two stars may be taken where it comes first, and is then never looked
    for again, which is what an atomic group says (as in Go's path.Match)."""

    @classmethod
    def pattern_to_regex(cls, pattern: Any) -> tuple[Any, bool | None]:
        if pattern.split("/").count("**") > MOST_DOUBLE_STARS:
            raise ValueError(f"more than {MOST_DOUBLE_STARS} times **")
        regex, include = super().pattern_to_regex(pattern)
        if regex is not None:
            # A class is one letter of a name, never the slash, which pathspec lets [!a] be.
            regex = _NEGATED.sub("[^/", _STARS.sub("[^/]*", regex))
            regex = _CHUNK.sub(r"(?>[^/]*?\1)", regex)
        return regex, include


class IgnoreRules:
    """Rules in the order in which they were given; of those that match, the last one decides."""

    def __init__(self, spec: GitIgnoreSpec) -> None:
        self._spec = spec

    @classmethod
    def none(cls) -> Self:
        """Rules that ignore nothing."""
        return cls(_spec_of([]))

    @property
    def ignores_nothing(self) -> bool:
        return len(self._spec) == 0

    @classmethod
    def defaults(cls) -> Self:
        """DEFAULT_RULES alone."""
        return cls(_spec_of(DEFAULT_RULES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """DEFAULT_RULES and then those of `text`, one a line; `!rule` brings back what an earlier rule
        ignores, except below a directory that stays ignored. Blank lines and those that begin with `#` are
        skipped.

        Raises InvalidNameError that names the line of a rule that cannot be understood.
        """
        lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
        try:
            return cls(_spec_of([*DEFAULT_RULES, *(line for line in lines if line.strip())]))
        except (ValueError, re.error):
            for number, line in enumerate(lines, 1):
                try:
                    _spec_of([line])
                except (ValueError, re.error) as error:
                    raise InvalidNameError(
                        f"{IGNORE_FILE}, line {number}: cannot understand the rule {line!r} ({error})"
                    ) from None
            raise

    def ignores(self, path: str, is_dir: bool) -> bool:
        """Whether what is at `path` (relative to the root, "/" between components) is left out. What is in an
        ignored directory is ignored, too, so a walker need not enter it."""
        return self._spec.match_file(path + "/" if is_dir else path)


def _spec_of(lines: Iterable[str]) -> GitIgnoreSpec:
    return GitIgnoreSpec.from_lines(lines, _Pattern)
