#!/usr/bin/env bash
# Granian 2.8.7: the level that a logging configuration (--log-config, log_dictconfig) gives to the server's own logger,
# _granian, is overwritten by --log-level, whose default is info. So a configuration that asks for warnings alone gets
# every "Starting", "Spawning" and "Stopping" line, without a word; --log-level has to say the same once more.
#
# Guessed before: a whole configuration of Python's logging, as it is given, is what holds; or the default of an option
# that was not given does not go against it.
#
# Seen: configured as WARNING: 8 lines of INFO; configured as WARNING, with --log-level warning: none
#
# Source: granian/log.py, configure_logging (log_config['loggers'].setdefault('_granian', {})['level'] is set after the
# given configuration was taken over).

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps granian==2.8.7 click==8.3.1

cd "$work"
cat >app.py <<'EOF'
async def app(scope, receive, send):
    """Respond to nothing."""
EOF
cat >logging.json <<'EOF'
{
    "version": 1,
    "formatters": {"plain": {"format": "%(levelname)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stdout"}},
    "loggers": {"_granian": {"handlers": ["console"], "level": "WARNING", "propagate": false}}
}
EOF
cat >look.py <<'EOF'
import os
import socket
import subprocess
import sys
import time

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]


def lines(*options):
    """Return how many lines of INFO the server writes from its start to its end."""
    command = [sys.executable, "-m", "granian", "--interface", "asginl", "--host", "127.0.0.1", "--port", str(port)]
    with open("output", "w+b") as output:
        server = subprocess.Popen([*command, "--log-config", "logging.json", *options, "app:app"], stdout=output)
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with socket.socket() as client:
                    if client.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
        finally:
            server.terminate()
            server.wait(20)
        output.seek(0)
        return sum(line.startswith(b"INFO") for line in output)


seen = lines(), lines("--log-level", "warning")
print(f"configured as WARNING: {seen[0]} lines of INFO; with --log-level warning: {seen[1]}")
if not (seen[0] > 0 and seen[1] == 0):
    sys.exit("CHANGED: expected lines in the first case alone")
EOF
"$work/venv/bin/python" look.py
