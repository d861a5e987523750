# make lab      the failover lab on a directory: needs nothing but cargo
# make lab-redis  the same on a Redis server that it starts and stops itself
# make demo     three nodes in the panes of tmux: Ctrl-C stops one, another goes on
# make demo-stop  ends it
# make test     every test, against real servers and processes
# make test-docker  the image and the compose files, on a real Docker engine
# make check    formatting, clippy with warnings denied, shellcheck, documentation
# make coverage  which lines the tests reach, as HTML
# make deb      a Debian package of the release binary, in target/debian
# make bench    every figure that the documentation names, measured here
# LAB='…' passes flags on:  make lab LAB='--nodes 5 --rounds 3'

# A debug build: a minute less to wait for, some milliseconds more to hand over.
TENURE = target/debug/tenure
LAB =

.PHONY: lab lab-redis demo demo-stop build image test test-docker programs coverage check bench deb install

build:
	@.ci/need cc
	cargo build

lab: build
	$(TENURE) lab $(LAB)

lab-redis: build
	@.ci/need redis-server
	.ci/with-redis $(TENURE) lab --backend REDIS_URL --fault kill,stop,pause,cut $(LAB)

demo: build
	@.ci/need tmux curl
	@TENURE=$(TENURE) examples/demo.sh start

demo-stop:
	@examples/demo.sh stop

# curl, haproxy and the rest: what the examples are written in and for. ip and iptables:
# what cuts the links between members.
programs:
	@.ci/need cc redis-server faketime etcd etcdctl pip3 promtool strace
	@.ci/need curl python3 node postgres haproxy
	@.ci/need chromedriver tmux systemd-analyze dpkg-deb strip fakeroot openssl
	@.ci/need ip iptables
	@.ci/need go || echo 'without go, its example is not run' >&2
	@.ci/etcd-3.5
	@.ci/redis-6.2
	@.ci/schemathesis
	@.ci/kubernetes-validate

test: programs
	cargo test --all-features

coverage: programs
	@cargo llvm-cov --version >/dev/null 2>&1 || { echo 'cargo-llvm-cov is missing; please install:' \
	  'rustup component add llvm-tools && cargo install cargo-llvm-cov' >&2; exit 1; }
	cargo llvm-cov --all-features --html

# Needs an engine that runs; with CI=true it installs and starts one, and stops it.
test-docker:
	@.ci/need python3
	python3 -B tests/docker

image:
	docker build --target tenure --tag tenure:local .

check:
	@.ci/need cc shellcheck
	shellcheck examples/*.sh examples/fencing/*.sh .ci/deb
	cargo fmt --check
	cargo clippy --all-targets --all-features -- -D warnings
	for alone in etcd file quorum raft redis; do \
	  cargo clippy --no-default-features --features $$alone -- -D warnings || exit 1; \
	done
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --all-features

bench:
	@.ci/need cc redis-server wrk
	cargo bench --bench figures

deb:
	@.ci/need cc dpkg-deb strip
	cargo build --release --locked
	.ci/deb target/release/tenure target/debian

install:
	@.ci/need cc
	cargo install --path . --locked
