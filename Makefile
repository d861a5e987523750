# make lab      the failover lab on a directory: needs nothing but cargo
# make lab-redis  the same on a Redis server that it starts and stops itself
# make test     every test, against real servers and processes
# make check    formatting, clippy with warnings denied, documentation
# make bench    every figure that the documentation names, measured here
# LAB='…' passes flags on:  make lab LAB='--nodes 5 --rounds 3'

# A debug build: a minute less to wait for, some milliseconds more to hand over.
TENURE = target/debug/tenure
LAB =

.PHONY: lab lab-redis build test check bench install

build:
	@.ci/need cc
	cargo build

lab: build
	$(TENURE) lab $(LAB)

lab-redis: build
	@.ci/need redis-server
	.ci/with-redis $(TENURE) lab --backend REDIS_URL --fault kill,stop,pause,cut $(LAB)

test:
	@.ci/need cc redis-server faketime promtool
	@.ci/schemathesis
	cargo test --all-features

check:
	@.ci/need cc
	cargo fmt --check
	cargo clippy --all-targets --all-features -- -D warnings
	cargo clippy --no-default-features --features file -- -D warnings
	cargo clippy --no-default-features --features redis -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --all-features

bench:
	@.ci/need cc redis-server wrk
	cargo bench --bench figures

install:
	@.ci/need cc
	cargo install --path . --locked
