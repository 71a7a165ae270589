#!/usr/bin/env bash
# A real Apache Kafka (one KRaft broker on 127.0.0.1) from its Maven jars, for development and tests.
# Usage: kafka.sh start [PORT]            start it if need be, wait until it answers, print host:port (default port 9092)
#        kafka.sh stop [PORT] [--clean]   end the broker that `start` started; --clean wipes its data
#        kafka.sh status [PORT]           print host:port if it answers, else exit 3
#        kafka.sh tool CLASS ARG…         one of Kafka's own tools: TopicCommand, ConsoleConsumer, ConsoleProducer, ConsumerGroupCommand …
# PORT+1 is taken by the controller, PORT+2 by a second listener, which tells its clients to come to PORT+3: there a proxy can stand.
# Everything lands in $SMARTROUTER_KAFKA_DIR (default ~/.cache/smartrouter/kafka): jars in lib/, data and log by port.
# SMARTROUTER_KAFKA_VERSION=X.Y.Z takes another version than that of pom.xml, from a lib/ of its own. With
# KAFKA_BOOTSTRAP=host:port set, that broker is used: nothing is started or stopped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${SMARTROUTER_KAFKA_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/smartrouter/kafka}
version=${SMARTROUTER_KAFKA_VERSION:-}
lib=$dir/lib${version:+-$version}
log4j=-Dlog4j2.configurationFile=$here/log4j2.properties

fail() { echo "kafka.sh: $1" >&2; exit "${2:-1}"; }

need() { # COMMAND PACKAGE
  command -v "$1" > /dev/null || fail "$1 is missing: install it with 'apt-get install $2' (or set KAFKA_BOOTSTRAP=host:port to use a broker that is there)"
}

answers() { # HOST PORT: something listens there
  timeout 2 bash -c ": < /dev/tcp/$1/$2" 2> /dev/null
}

ready() { # HOST PORT: the broker answers a client
  answers "$1" "$2" && timeout 20 java -XX:TieredStopAtLevel=1 "$log4j" -cp "$lib/*" \
    org.apache.kafka.tools.BrokerApiVersionsCommand --bootstrap-server "$1:$2" > /dev/null 2>&1
}

# The pid file counts only while its process is a broker that runs from this very directory.
own_pid() {
  local pid
  pid=$(cat "$home/pid" 2> /dev/null) || return 1
  tr '\0' ' ' 2> /dev/null < "/proc/$pid/cmdline" | grep -qF "kafka.Kafka $home/server.properties" && echo "$pid"
}

jars() {
  need java openjdk-17-jre-headless
  local stamp
  stamp=$(cksum < "$here/pom.xml")
  [ "$(cat "$lib/.pom" 2> /dev/null)" = "$stamp" ] && return
  need mvn maven
  mkdir -p "$dir"
  (
    flock 9 # two starts at once fetch once
    [ "$(cat "$lib/.pom" 2> /dev/null)" = "$stamp" ] && exit
    echo "fetching Apache Kafka to $lib" >&2
    rm -rf "$lib"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$lib" ${version:+-Dkafka.version="$version"} >&2 \
      || fail "Maven could not fetch Kafka's jars: see its messages above"
    echo "$stamp" > "$lib/.pom"
  ) 9> "$dir/.lock"
}

launch() {
  mkdir -p "$home"
  sed -e "s|@PORT@|$port|" -e "s|@CONTROLLER_PORT@|$((port + 1))|" -e "s|@PROXIED_PORT@|$((port + 2))|" \
    -e "s|@PROXY_PORT@|$((port + 3))|" -e "s|@DATA@|$home/data|" "$here/server.properties.in" > "$home/server.properties"
  if [ ! -f "$home/data/meta.properties" ]; then
    local id
    id=$(java "$log4j" -cp "$lib/*" kafka.tools.StorageTool random-uuid)
    java "$log4j" -cp "$lib/*" kafka.tools.StorageTool format -t "$id" -c "$home/server.properties" > "$home/log" 2>&1 \
      || fail "the data directory could not be formatted: $home/log"
  fi
  setsid nohup java -Xms512m -Xmx512m -XX:+UseG1GC -XX:MaxGCPauseMillis=20 "$log4j" -cp "$lib/*" \
    kafka.Kafka "$home/server.properties" > "$home/log" 2>&1 < /dev/null &
  echo $! > "$home/pid"
}

start() {
  jars
  if ! own_pid > /dev/null; then
    for p in "$port" $((port + 1)) $((port + 2)); do
      ! answers 127.0.0.1 "$p" || fail "port $p is taken by another program: give another one, 'kafka.sh start PORT'"
    done
    launch
  fi
  local deadline=$((SECONDS + 180)) # 2 s on an idle machine
  while [ "$SECONDS" -lt "$deadline" ]; do
    # By its id alone: just forked, it does not bear its own name yet.
    kill -0 "$(cat "$home/pid")" 2> /dev/null || fail "the broker ended while starting, its last words: $(tail -n 5 "$home/log")"
    answers 127.0.0.1 "$port" && ready 127.0.0.1 "$port" && { echo "127.0.0.1:$port"; return; }
    sleep 0.3
  done
  fail "the broker does not answer: $home/log"
}

stop() {
  local pid
  if pid=$(own_pid); then
    kill "$pid"
    for _ in $(seq 150); do kill -0 "$pid" 2> /dev/null || break; sleep 0.2; done
    ! kill -0 "$pid" 2> /dev/null || fail "the broker (process $pid) does not end: $home/log"
    echo "stopped the broker on port $port"
  else
    echo "no broker of ours runs on port $port"
  fi
  rm -f "$home/pid"
  [ -z "$clean" ] || { rm -rf "$home"; echo "wiped its data"; }
}

command=${1:-}
[ $# = 0 ] || shift
if [ "$command" = tool ]; then
  class=${1:-}
  [ -n "$class" ] || fail "usage: kafka.sh tool CLASS ARG…, such as: tool ConsoleConsumer --bootstrap-server 127.0.0.1:9092 --topic psp.states" 2
  shift
  jars
  for package in org.apache.kafka.tools org.apache.kafka.tools.consumer org.apache.kafka.tools.consumer.group kafka.tools kafka.admin ''; do
    entry=${package:+${package//.//}/}$class.class
    for jar in "$lib"/kafka*.jar; do
      # java's own launcher tells whether a class is there only by failing, so look into the jars.
      unzip -l "$jar" "$entry" > /dev/null 2>&1 || continue
      exec java -XX:TieredStopAtLevel=1 "$log4j" -cp "$lib/*" "${package:+$package.}$class" "$@"
    done
  done
  fail "no tool $class in Kafka's jars; try TopicCommand, ConsoleConsumer, ConsoleProducer, ConsumerGroupCommand" 2
fi

port=9092 clean=''
for word in "$@"; do
  case $word in
    --clean) clean=yes ;;
    *[!0-9]* | '') fail "not a port: '$word'" 2 ;;
    *) port=$word ;;
  esac
done
home=$dir/$port

if [ -n "${KAFKA_BOOTSTRAP:-}" ]; then
  first=${KAFKA_BOOTSTRAP%%,*}
  case $command in
    start | status) answers "${first%:*}" "${first##*:}" || fail "no broker answers at KAFKA_BOOTSTRAP=$KAFKA_BOOTSTRAP" 3
      echo "$KAFKA_BOOTSTRAP" ;;
    stop) echo "KAFKA_BOOTSTRAP is set: its broker is left alone" ;;
    *) sed -n '3,6s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
  exit
fi

case $command in
  start) start ;;
  stop) stop ;;
  status) if own_pid > /dev/null && answers 127.0.0.1 "$port"; then echo "127.0.0.1:$port"; else fail "no broker of ours answers on port $port" 3; fi ;;
  *) sed -n '3,6s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
