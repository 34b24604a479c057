"""The few SVG elements and scales that plots are made from."""

import math
from collections.abc import Callable, Iterator
from html import escape

Scale = Callable[[float], float]


def element(name: str, *content: str, **attributes: object) -> str:
    """Write an element; `class_` is its class, and underscores become hyphens. Content is markup, see `text`."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(content)}</{name}>" if content else f"<{name}{written}/>"


def text(words: str, x: float, y: float, **attributes: object) -> str:
    """Write words at a place."""
    return element("text", escape(words), x=x, y=y, **attributes)


def title(words: str) -> str:
    """Write what a browser shows of an element that is pointed at."""
    return element("title", escape(words))


def line(x1: float, y1: float, x2: float, y2: float, **attributes: object) -> str:
    """Draw a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def polyline(points: list[tuple[float, float]], **attributes: object) -> str:
    """Draw a line through points."""
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), fill="none", **attributes)


def picture(width: float, height: float, *content: str, label: str) -> str:
    """Frame a drawing that scales with its page, named for those who do not see it."""
    space = {"xmlns": "http://www.w3.org/2000/svg"}
    view_box = {"viewBox": f"0 0 {width:.0f} {height:.0f}"}
    return element("svg", *content, **space, **view_box, role="img", aria_label=label)


def linear(highest: float, start: float, end: float) -> Scale:
    """Map 0 to highest onto start to end."""
    return lambda value: start + (end - start) * value / highest


def logarithmic(lowest: float, highest: float, start: float, end: float) -> Scale:
    """Map lowest to highest onto start to end, by their logarithms."""
    span = math.log(highest / lowest) or 1.0
    return lambda value: start + (end - start) * math.log(value / lowest) / span


def round_steps(highest: float, count: int) -> Iterator[float]:
    """Return about so many round numbers from 0 to highest."""
    rough = highest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    yield from (number * step for number in range(int(highest / step) + 1))


def round_decades(lowest: float, highest: float) -> Iterator[float]:
    """Return the 1, 2 and 5 of each power of ten from lowest to highest."""
    for power in range(math.floor(math.log10(lowest)), math.ceil(math.log10(highest)) + 1):
        for factor in (1, 2, 5):
            if lowest <= (step := factor * 10.0**power) <= highest:
                yield step


def brief(number: float) -> str:
    """Write a number in three digits or so."""
    for size, unit in ((1e6, "\u202fM"), (1e3, "\u202fk")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _value(value: object) -> str:
    return escape(f"{value:.1f}" if isinstance(value, float) else str(value))
