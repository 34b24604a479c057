"""The pages of the documents, as the Markdown that they are."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(file for place in ("*.md", "docs/*.md", "findings/*.md", "deploy/**/*.md") for file in ROOT.glob(place))

MARKDOWN = MarkdownIt("commonmark").enable("table")
ATTRIBUTES = re.compile(r'<\w+[^>]*?\s(?:href|src)="([^"]*)"')
NOT_IN_SLUGS = re.compile(r"[^\w\- ]")


@cache
def tokens(page: Path) -> list[Token]:
    """Return the blocks of a page."""
    return MARKDOWN.parse(page.read_text(encoding="utf-8"))


def inline(page: Path) -> Iterator[Token]:
    """Yield what the blocks of a page consist of: text, code, links, images."""
    for token in tokens(page):
        yield from token.children or ()


def links(page: Path) -> Iterator[str]:
    """Yield the target of each link and image of a page."""
    for token in inline(page):
        if token.type in {"link_open", "image"}:
            yield str(token.attrs["href" if token.type == "link_open" else "src"])
    for token in [*tokens(page), *inline(page)]:
        if token.type in {"html_block", "html_inline"}:
            yield from ATTRIBUTES.findall(token.content)


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges make them of their texts."""
    found: set[str] = set()
    for opening, heading in zip(tokens(page), tokens(page)[1:], strict=False):
        if opening.type == "heading_open":
            found.add(distinct(slug(heading), found))
    return found


def slug(heading: Token) -> str:
    """Return the anchor of a heading: its text in lower case, without punctuation, with hyphens for spaces."""
    text = "".join(token.content for token in heading.children or () if token.type in {"text", "code_inline"})
    return NOT_IN_SLUGS.sub("", text.lower()).replace(" ", "-")


def distinct(name: str, taken: set[str]) -> str:
    """Return a name that is not taken yet, numbered if need be."""
    numbers = (f"{name}-{number}" for number in range(1, len(taken) + 1))
    return name if name not in taken else next(each for each in numbers if each not in taken)
