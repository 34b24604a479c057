"""Whether what traces need is installed: the extra otel."""

from importlib.util import find_spec

from service.settings import Settings

NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
HINT = "the extra otel, as of pip install 'items-service[otel]' or requirements-otel.txt"


def traces_obstacle(settings: Settings) -> str:
    """Return why there can be no traces, if they are on, or ""."""
    if not settings.traces:
        return ""
    try:
        missing = [name for name in NEEDED if find_spec(name) is None]
    except ModuleNotFoundError as error:
        missing = [str(error.name)]
    return f"ITEMSVC_TRACES is on, which needs {HINT}: {missing[0]} is not installed" if missing else ""
