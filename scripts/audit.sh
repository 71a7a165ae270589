#!/usr/bin/env bash
# Judges the dependencies by .deny.toml: licences, bans and sources always, known vulnerabilities where their database can be reached.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.20.2
tools=${XDG_CACHE_HOME:-$HOME/.cache}/smartrouter/tools
export PATH="$tools/bin:$HOME/.cargo/bin:$PATH"

if ! command -v cargo-deny > /dev/null; then
  echo "installing cargo-deny $version (3 to 6 minutes, once)" >&2
  CARGO_TARGET_DIR="$tools/build" cargo install cargo-deny --locked --version "$version" --root "$tools" --quiet
  rm -rf "$tools/build"
fi

# Duplicate versions are named, without a tree each.
deny() { cargo deny --config .deny.toml "$@"; }

deny check --hide-inclusion-graph licenses bans sources
if timeout 120 cargo deny --config .deny.toml --log-level off fetch db > /dev/null 2>&1; then
  deny check --hide-inclusion-graph --disable-fetch advisories
else
  echo "advisories skipped: the database of known vulnerabilities cannot be reached from here" >&2
fi
