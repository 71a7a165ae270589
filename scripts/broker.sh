# Sourced by scripts that need a broker for as long as they run, after `cd` to the repository.
# `broker PORT` sets $bootstrap: to a broker on that port, started if need be and then stopped again at the end of the script, whatever
# happens; or to the one at KAFKA_BOOTSTRAP=host:port.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/smartrouter
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
started=''

leave() {
  if [ -n "$started" ]; then scripts/kafka/kafka.sh stop "$started" --clean; fi
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

broker() { # PORT
  if [ -z "${KAFKA_BOOTSTRAP:-}" ] && ! scripts/kafka/kafka.sh status "$1" > /dev/null 2>&1; then started=$1; fi
  bootstrap=$(scripts/kafka/kafka.sh start "$1" | tail -n1)
}
