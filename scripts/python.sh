#!/usr/bin/env bash
# Prints a Python with the clients that the wire format and the warehouse are tested with: not ours, so that a mistake of ours cannot agree
# with itself.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${XDG_CACHE_HOME:-$HOME/.cache}/smartrouter/venv
wanted=$(cat tests/interop/requirements.txt)
if [ "$(cat "$venv/.installed" 2> /dev/null)" != "$wanted" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/interop/requirements.txt
  echo "$wanted" > "$venv/.installed"
fi
echo "$venv/bin/python"
