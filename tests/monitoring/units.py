"""How numbers of a unit of Grafana's are written."""

from bench.report.svg import brief

SPACE = "\u202f"
BINARY = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))
TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def written(number: float, unit: str) -> str:
    """Return a number with its unit."""
    if number == 0:
        return "0"
    if unit == "percentunit":
        return f"{number * 100:.3g}{SPACE}%"
    if unit == "bytes":
        return _scaled(number, BINARY)
    if unit == "s":
        return _scaled(number, TIMES)
    return f"{brief(number)}{'/s' * (unit in {'reqps', 'ops'})}"


def base(unit: str) -> float:
    """Return the size whose multiples are round numbers of this unit."""
    return 2**20 if unit == "bytes" else 1


def _scaled(number: float, sizes: tuple[tuple[float, str], ...]) -> str:
    size, name = next(((size, name) for size, name in sizes if number >= size * 0.9995), sizes[-1])
    return f"{number / size:.3g}{SPACE}{name}"
