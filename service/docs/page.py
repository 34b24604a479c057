"""The files of the page /docs: a fixed set, read once, so that no request gets to the file system."""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.http.headers import combined, has_tag
from service.http.operation import SAFE
from service.http.problems import METHOD_NOT_ALLOWED, ProblemError
from service.http.response import NO_CACHE, Header, Response, send_response
from service.swagger_ui import swagger_ui_folder

PATH = "/docs"
OWN_FOLDER = Path(__file__).parent
PAGE = "index.html"
OWN_FILES = ("docs.css", "docs.js", "msgpack.js")
SWAGGER_UI_FILES = ("favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css")
MEDIA_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
}
# Scripts and styles are files of this service, never text in the page; Swagger UI has pictures in `data:` URLs.
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS: tuple[Header, ...] = (
    (b"content-security-policy", POLICY),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
ALLOWED: Header = (b"allow", b"GET, HEAD")
DIGEST_BYTES = 12


class File:
    """The ASGI application of one file, with an ETag: each use asks for it, as a new release may have another one."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self._tag = blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
        headers = [*SECURITY_HEADERS, NO_CACHE, (b"etag", f'"{self._tag}"'.encode())]
        self._response = Response(200, [(b"content-type", MEDIA_TYPES[path.suffix]), *headers], content)
        self._not_modified = Response(304, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - no body is read
        """Send the file, or a 304 if If-None-Match has its ETag. Raise a 405."""
        if scope["method"] not in SAFE:
            raise ProblemError(METHOD_NOT_ALLOWED, "Allowed are GET, HEAD.", headers=[ALLOWED])
        condition = combined(scope["headers"]).get(b"if-none-match")
        is_known = condition is not None and has_tag(condition, self._tag)
        await send_response(scope, send, self._not_modified if is_known else self._response)


def docs_routes() -> Iterator[Route]:
    """Yield the route of the page, and one for each file that it loads. Raise FileNotFoundError without Swagger UI."""
    swagger_ui = swagger_ui_folder()
    if swagger_ui is None:
        raise FileNotFoundError("Swagger UI is not installed")
    yield Route(PATH, File(OWN_FOLDER / PAGE))
    for folder, names in ((OWN_FOLDER, OWN_FILES), (swagger_ui, SWAGGER_UI_FILES)):
        yield from (Route(f"{PATH}/{name}", File(folder / name)) for name in names)
