#!/usr/bin/env bash
# argon2-cffi 25.1.0 (argon2-cffi-bindings 26.2.0) on 64-bit Linux with glibc (2.36 here): hashes of 19 MiB, the minimum
# in OWASP's cheat sheet, leave 19 MiB resident for each of the threads that hashed at the same time, after they have
# ended, too, and malloc_trim(0) gives none of it back. Hashes of 64 MiB, argon2-cffi's default, leave nothing.
# Below 32 MiB, the first block that is freed raises two thresholds: later ones come from the threads' arenas, and an
# arena's free end is kept up to twice that size. MALLOC_MMAP_THRESHOLD_ set to its default, 128 KiB, stops the raising.
#
# Guessed before: a block so far above the 128 KiB goes back to the system when freed; smaller hashes need less memory.
#
# Seen: MiB kept after 4 threads with 3 hashes each, and then after malloc_trim(0):
#       19 MiB: 76, 76; 64 MiB: 0, 0; 19 MiB with MALLOC_MMAP_THRESHOLD_=131072: 0, 0
#
# Source: mallopt(3), M_MMAP_THRESHOLD (it is dynamic, up to DEFAULT_MMAP_THRESHOLD_MAX, 4*1024*1024*sizeof(long), and
# setting it disables that); glibc, malloc/arena.c, heap_trim (keeps what is below trim_threshold) and malloc/malloc.c,
# mtrim (the end of an arena is given back only for the main one); RustCrypto/password-hashes issue 478 "Argon2 -
# Freeing memory after use" (open). OWASP, Password Storage Cheat Sheet; RFC 9106, section 4.

set -euo pipefail
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check --no-deps \
    argon2-cffi==25.1.0 argon2-cffi-bindings==26.2.0 cffi==2.1.1 pycparser==3.12
unset LD_PRELOAD GLIBC_TUNABLES "${!MALLOC_@}"

cat >"$work/hashes.py" <<'EOF'
import ctypes
import os
import re
import sys
import threading
from pathlib import Path

from argon2.low_level import Type, hash_secret_raw

THREADS = 4
ROUNDS = 3


def resident():
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def work(mib, together):
    for _ in range(ROUNDS):
        together.wait()
        hash_secret_raw(b"password", b"16 bytes of salt", 1, mib * 1024, 1, 32, Type.ID)


mib, least, most = map(int, sys.argv[1:])
before = resident()
together = threading.Barrier(THREADS)
threads = [threading.Thread(target=work, args=(mib, together)) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
kept = resident() - before
ctypes.CDLL(None).malloc_trim(0)
trimmed = resident() - before
own = os.environ.get("MALLOC_MMAP_THRESHOLD_", "dynamic")
print(f"{os.confstr('CS_GNU_LIBC_VERSION')}, threshold {own}, hashes of {mib} MiB: {kept:.0f} MiB, {trimmed:.0f} MiB")
if not all(least <= seen <= most for seen in (kept, trimmed)):
    sys.exit(f"CHANGED: expected from {least} to {most} MiB")
EOF

# Of the 4 * 19 MiB at least half is to be there, to be sure of it, and of what is given back at most 8 MiB.
"$work/venv/bin/python" "$work/hashes.py" 19 38 96
"$work/venv/bin/python" "$work/hashes.py" 64 -8 8
MALLOC_MMAP_THRESHOLD_=131072 "$work/venv/bin/python" "$work/hashes.py" 19 -8 8
