"""Where the files of Swagger UI are: in a package for Flask, of which nothing is imported, so it needs no Flask."""

from importlib.util import find_spec
from pathlib import Path

PACKAGE = "flask-swagger-ui"


def swagger_ui_folder() -> Path | None:
    """Return the folder with the files of Swagger UI; None if the package is not installed."""
    spec = find_spec(PACKAGE.replace("-", "_"))  # which runs none of it
    return Path(spec.origin).parent / "dist" if spec and spec.origin else None
