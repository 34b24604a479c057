"""The examples of the documents: their fenced blocks, and the output that a page shows of them.

A block that cannot be run has a comment before it, `<!-- not run: REASON -->`. What is run:

- `console`: commands after `$ `, which go on behind a backslash at a line's end, each with its output, if it is shown;
- `python` and `javascript`: a program, with its output in a block `text` right after it, if it is shown.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from markdown_it.token import Token

from tests.docs.pages import ROOT, tokens

PROGRAMS = ("python", "javascript")
RUN = {"console", *PROGRAMS}
# Drawings, output, and what is of no use alone; the code that makes such a block is compared with it.
SHOWN = {"", "promql", "sql", "text", "yaml"}
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->", re.DOTALL)
FENCES = {"fence", "code_block"}


class Command(NamedTuple):
    """A command or a program, and the output that the page shows of it, or None."""

    language: str
    text: str
    output: str | None


class Example(NamedTuple):
    """A block of a page."""

    page: Path
    line: int
    language: str
    text: str
    following: str | None  # the block of output right after it
    reason: str  # why it cannot be run, if it cannot

    @property
    def place(self) -> str:
        """Where it is."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    def commands(self) -> Iterator[Command]:
        """Yield what is to be run, in turn."""
        if self.language in PROGRAMS:
            yield Command(self.language, self.text, self.following)
            return
        _, *parts = re.split(r"^\$ ", f"\n{self.text}", flags=re.MULTILINE)
        for part in parts:
            command, _, output = re.sub(r"\\\n", "\0", part).partition("\n")
            yield Command(self.language, command.replace("\0", "\\\n"), output or None)


def examples(page: Path) -> list[Example]:
    """Return every block of a page."""
    around = [None, *tokens(page), None]
    return [
        example(page, before, token, after)
        for (before, token), (_, after) in pairwise(pairwise(around))
        if token is not None and token.type in FENCES
    ]


def example(page: Path, before: Token | None, token: Token, after: Token | None) -> Example:
    """Return a block, with what stands right before and after it."""
    reason = NOT_RUN.search(before.content) if before and before.type == "html_block" else None
    is_output = after is not None and after.type == "fence" and after.info == "text"
    [start, _] = token.map or [0, 0]
    following = after.content if after and is_output else None
    return Example(page, start + 1, token.info, token.content, following, " ".join(reason[1].split()) if reason else "")
