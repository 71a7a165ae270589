# What a developer types. Every target installs what it needs when run as root on Debian, and otherwise says what to install.
# Built things land outside the checkout, so that a fresh clone does not build the dependencies again.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/smartrouter/target
export PATH := $(HOME)/.cargo/bin:$(PATH)
KAFKA_PORT ?= 9092
FUZZ_SECONDS ?= 300

.PHONY: help demo build test torture bench fuzz lint audit kafka-up kafka-down

help:
	@echo 'make demo        an outage and what the router makes of it, in about a minute, without any server'
	@echo 'make build       the binary: $$CARGO_TARGET_DIR/debug/smartrouter'
	@echo 'make test        all tests, with a broker of their own (or the one at KAFKA_BOOTSTRAP=host:port)'
	@echo 'make torture     exactly once under fire, some two hours: 500 kills, mutants, disks, network, load (CYCLES=..., SEED=...)'
	@echo 'make bench       how fast it is, against goals: one table, about half an hour (BENCH=drain: only that one)'
	@echo 'make fuzz        a million records, then libFuzzer on each target for FUZZ_SECONDS=$(FUZZ_SECONDS) seconds'
	@echo 'make lint        format, clippy, documentation links'
	@echo 'make audit       licences, sources, duplicate versions and known vulnerabilities of dependencies'
	@echo 'make kafka-up    a Kafka on 127.0.0.1:$(KAFKA_PORT) (KAFKA_PORT=...); kafka-down ends it'

demo:
	@scripts/setup.sh build
	cargo run --quiet -- demo

build:
	@scripts/setup.sh build
	cargo build

test:
	@scripts/setup.sh build kafka python valgrind
	scripts/test.sh

torture:
	@scripts/setup.sh build kafka python
	scripts/torture.sh $(if $(CYCLES),--cycles $(CYCLES)) $(if $(SEED),--seed $(SEED))

bench:
	@scripts/setup.sh build kafka
	scripts/bench.sh $(BENCH)

fuzz:
	@scripts/setup.sh build
	scripts/fuzz.sh $(FUZZ_SECONDS)

lint:
	@scripts/setup.sh build lint
	cargo fmt --check
	cargo clippy --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --document-private-items --quiet

audit:
	@scripts/setup.sh build
	scripts/audit.sh

kafka-up:
	@scripts/setup.sh kafka
	scripts/kafka/kafka.sh start $(KAFKA_PORT)

kafka-down:
	scripts/kafka/kafka.sh stop $(KAFKA_PORT)
