#!/bin/sh
# Installs Cellvigil from this bundle, without internet. As root: ./install.sh [--user cellvigil] [--instance NAME]
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-/usr/bin/python3}
command -v "$python" >/dev/null || { echo "$python is not there: apt install python3 python3-venv" >&2; exit 1; }
PYTHONPATH=$(echo wheels/cellvigil-*.whl) exec "$python" -m cellvigil.install --from . "$@"
