#!/usr/bin/env bash
# Makes sure that what a target needs is installed: setup.sh build|lint|kafka|python|valgrind ...
# As root on Debian it installs what is missing; otherwise it prints exactly what to type, and exits with 1.
set -euo pipefail

RUST_MIN=1.90 # as `rust-version` in Cargo.toml
export PATH="$HOME/.cargo/bin:$PATH"
packages=()
advice=()

has() { command -v "$1" > /dev/null 2>&1; }

# want TEST... -- PACKAGE: PACKAGE is needed when the test fails.
want() {
  local check=()
  while [ "$1" != -- ]; do check+=("$1"); shift; done
  "${check[@]}" > /dev/null 2>&1 || packages+=("$2")
}

rust_is_new_enough() {
  has cargo && has rustc || return 1
  local version
  version=$(rustc --version | cut -d' ' -f2)
  [ "$(printf '%s\n%s\n' "$RUST_MIN" "$version" | sort -V | head -n1)" = "$RUST_MIN" ]
}

java_is_new_enough() {
  has java || return 1
  local major
  major=$(java -version 2>&1 | sed -n '1s/.*version "\([0-9]*\).*/\1/p')
  [ "${major:-0}" -ge 17 ]
}

# bindgen looks for libclang itself; any version will do. libclang-cpp is another library, and may be there alone.
libclang_is_there() {
  local found
  found=$(ldconfig -p 2> /dev/null; ls /usr/lib/llvm-*/lib 2> /dev/null || true)
  grep -Eq '\blibclang(-[0-9.]+)?\.so' <<< "$found"
}

openssl_is_there() { has pkg-config && pkg-config --exists openssl; }
venv_works() { python3 -c 'import venv, ensurepip'; }

can_install() { [ "$(id -u)" = 0 ] && has apt-get; }

install_packages() {
  [ ${#packages[@]} -gt 0 ] || return 0
  if can_install; then
    echo "installing ${packages[*]}" >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" > /dev/null
  else
    advice+=("sudo apt-get install ${packages[*]}   # Debian's names; take your system's")
  fi
  packages=()
}

install_rust() {
  rust_is_new_enough && return
  if has rustup; then
    rustup toolchain install stable --profile minimal --component rustfmt --component clippy >&2 && rustup default stable >&2
    rust_is_new_enough && return
  elif can_install; then
    if [ -n "$(apt-cache madison rustup 2> /dev/null)" ]; then
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq rustup > /dev/null
      rustup toolchain install stable --profile minimal --component rustfmt --component clippy >&2 && rustup default stable >&2
    else
      want has curl -- curl
      packages+=(ca-certificates)
      install_packages
      curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component rustfmt --component clippy >&2
    fi
    rust_is_new_enough && return
  fi
  advice+=("curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh   # Rust $RUST_MIN or newer; then open a new shell")
}

for need in "$@"; do
  case $need in
    build)
      want has cc -- build-essential
      want has c++ -- build-essential
      want has make -- build-essential
      want has cmake -- cmake
      want has pkg-config -- pkg-config
      want openssl_is_there -- libssl-dev
      want libclang_is_there -- libclang-dev
      ;;
    kafka)
      # A broker that is there already needs nothing of ours.
      if [ -z "${KAFKA_BOOTSTRAP:-}" ]; then
        want java_is_new_enough -- default-jre-headless
        want has mvn -- maven
      fi
      ;;
    python)
      want has python3 -- python3
      want venv_works -- python3-venv
      ;;
    valgrind)
      # One test counts instructions with it, and says so when it is not there: it is no reason to stop.
      if can_install; then want has valgrind -- valgrind; fi
      ;;
    lint) ;;
    *)
      echo "setup.sh: no such need: '$need' (build, lint, kafka, python, valgrind)" >&2
      exit 2
      ;;
  esac
done

mapfile -t packages < <(printf '%s\n' "${packages[@]}" | grep . | sort -u)
install_packages
for need in "$@"; do
  case $need in
    build) install_rust ;;
    lint)
      if has cargo && ! { cargo fmt --version && cargo clippy --version; } > /dev/null 2>&1; then
        if has rustup; then
          rustup component add rustfmt clippy >&2
        else
          advice+=("install rustfmt and clippy of your Rust toolchain   # Debian: apt-get install rustfmt rust-clippy")
        fi
      fi
      ;;
  esac
done

if [ ${#advice[@]} -gt 0 ]; then
  echo "something is missing; type:" >&2
  printf '  %s\n' "${advice[@]}" >&2
  exit 1
fi
