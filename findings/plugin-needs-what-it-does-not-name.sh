#!/usr/bin/env bash
# cloudcoil 0.6.0: installing this client of Kubernetes brings a pytest plugin along that is loaded in every project of
# the environment, and imports filelock, which is none of its dependencies: every pytest run ends before its first test,
# also of tests that have nothing to do with it, unless another package happens to bring filelock.
#
# Guessed before: a package whose models one uses in scripts changes nothing about the tests of others.
#
# Seen: exit code 3, ModuleNotFoundError: No module named 'filelock'; with -p no:cloudcoil: exit code 0
#
# Source: its entry point pytest11 "cloudcoil", and the Requires-Dist of its metadata.

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check cloudcoil==0.6.0 pytest==9.2.0
cd "$work"
echo 'def test_nothing(): pass' >test_nothing.py

code=0
output=$("$work/venv/bin/pytest" -q -p no:cacheprovider test_nothing.py 2>&1) || code=$?
error=$(grep -o "ModuleNotFoundError: .*" <<<"$output" | tail -1 || true)
without=0
"$work/venv/bin/pytest" -q -p no:cacheprovider -p no:cloudcoil test_nothing.py >/dev/null 2>&1 || without=$?
echo "exit code $code, $error; with -p no:cloudcoil: exit code $without"
if [ "$code $error $without" != "3 ModuleNotFoundError: No module named 'filelock' 0" ]; then
    echo CHANGED >&2
    exit 1
fi
