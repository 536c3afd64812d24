#!/bin/sh
# Make .venv, with nox and uv, on a bare Debian or Ubuntu or any machine that has Python 3.11 or later.
set -eu
cd "$(dirname "$0")"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; return; fi
  command -v sudo >/dev/null || { echo "prepare.sh: as root, first: apt-get install python3-venv ca-certificates" >&2; exit 2; }
  sudo "$@"
}

find_python() {
  for python in python3 python3.11 python3.12 python3.13 python3.14 python3.15; do
    "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
  done
  return 1
}

is_good() { .venv/bin/python -c 'import sys, nox, uv; sys.exit(sys.version_info < (3, 11))' && .venv/bin/nox --version; }

is_good >/dev/null 2>&1 && exit
if ! find_python && command -v apt-get >/dev/null; then
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv ca-certificates >/dev/null
fi
find_python || { echo "prepare.sh: Python 3.11 or later is needed, with venv: install one, as python3 or python3.N" >&2; exit 2; }
"$python" -m venv --clear .venv
.venv/bin/python -m pip install -q nox uv
