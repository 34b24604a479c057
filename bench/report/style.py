"""How plots look, on the page and alone."""

from pathlib import Path

PLOTS = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
PAGE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def standalone(svg: str) -> str:
    """Return a plot its style and a background, so that it can be shown by itself."""
    start = svg.index(">") + 1
    paper = '<rect width="100%" height="100%" fill="var(--card)"/>'
    return f"{svg[:start]}<style>{PLOTS}</style>{paper}{svg[start:]}\n"
