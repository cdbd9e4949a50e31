# The commands of this repository. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Where rustup puts cargo, for a shell that has not been opened anew since.
export PATH := $(PATH):$(HOME)/.cargo/bin
export CARGO_TERM_PROGRESS_WHEN ?= never

# Incremental files only pay off for whoever builds again and again.
ifdef CI
export CARGO_INCREMENTAL := 0
endif

RUST := 1.90
FLOWSCOPE := --manifest-path systems/flowscope/Cargo.toml

# autobahntestsuite is for Python 2.7: what later Pythons are given does not start.
PYTHON2 ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/2.7*/bin/python2.7) python2.7)
WSTEST := target/wstest
# Without those that only measure how long much data takes, and compression; `make tls CASES='"*"'` for all of them.
CASES ?= '1.*' '2.*' '3.*' '4.*' '5.*' '6.*' '7.*' '10.*'

.PHONY: help try test databases lint kill rollbacks figures bench servers containers flowstack focusflow tls migrators setup need clean

help:
	@echo "make try     rehearse FlowScope: local, staging, production, and back, under load"
	@echo "make test    format, lints and all tests but the slow ones"
	@echo "make databases install PostgreSQL and Redis for the tests (Debian, as root)"
	@echo "make lint    format and lints"
	@echo "make kill    slow: kill the agent at every point of every step, and the next one too"
	@echo "make rollbacks slow: ten roll-backs of FlowScope on PostgreSQL under load, and every planted fault"
	@echo "make figures run the tests that count, and show their counts"
	@echo "make bench   slow: the gateway beside others, and migrations, each in one run"
	@echo "make tls     slow: https beside an issuer, load, browsers and WebSocket suites of others"
	@echo "make servers slow, as root: two servers on this machine, over a real sshd"
	@echo "make containers slow, as root: services in containers, with a Docker of its own"
	@echo "make flowstack slow, 15 GB: Flowise 2.2.8 to 3.0.13 and back under traffic; ENGINE=sqlite, postgres or both"
	@echo "make focusflow slow: FocusFlow from an empty clone: a browser, each component killed, and the way to production"
	@echo "make migrators slow: Alembic and node-pg-migrate, from their registries, on real databases"
	@echo "make setup   install what is missing (Debian, as root)"
	@echo "make clean   remove what was built"

try: need
	cargo build --locked --release -p tow
	./target/release/tow -C systems/flowscope rehearse --prove

# FlowScope is a workspace of its own; in one target folder it shares what both depend on.
test: lint databases
	cargo test --locked --workspace
	cargo test --locked $(FLOWSCOPE) --target-dir target

# Real servers for the tests of databases, which say so where they are skipped. No cluster is made, and nothing started.
databases:
	@if ls /usr/lib/postgresql/*/bin/postgres > /dev/null 2>&1 && command -v psql > /dev/null \
	  && command -v redis-server > /dev/null; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
	  echo "tests of databases are skipped; as root: apt-get install postgresql redis-server"; exit 0; \
	fi; \
	mkdir -p /etc/postgresql-common; \
	test -e /etc/postgresql-common/createcluster.conf \
	  || echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf; \
	apt-get update -qq; \
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql redis-server > /dev/null \
	  || echo "tests of databases are skipped: the packages postgresql and redis-server cannot be installed"

lint: need
	cargo fmt --check --all
	cargo fmt --check $(FLOWSCOPE)
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked -p tow --test tls --test containers --test migrators -- -D warnings
	cargo clippy --locked $(FLOWSCOPE) --target-dir target --all-targets -- -D warnings

# `make test` takes each step at one of its points; this takes every step at every point, pairs of
# places one after the other, and the journal cut behind every row. Optimised: that is a thousand deployments.
kill: need databases
	cargo build --release --locked -p tow --examples
	TOWPATH_KILL_ALL=1 cargo test --release --locked -p tow --test suite -- --nocapture kill:: crash:: cut:: matrix:: foreign::a_deployment foreign::a_refused

# Each round is a promotion and a way back. The planted faults show that each of the zeros can be something else.
rollbacks: need databases
	cargo build --locked --release -p tow
	./target/release/tow -C systems/flowscope rehearse --skip-local --rounds 10 --requests 4000 --writes 1000 --prove

# The counts that the tests print, each zero with its denominator; of tests that fail, everything.
figures: need
	cargo build --locked -p tow --examples
	@$(call counted,-p towpath-gateway -p towpath-shim)
	@$(call counted,-p tow --test suite)

define counted
cargo test --locked --no-fail-fast $(1) -- --nocapture > target/figures.log 2>&1; ended=$$?; \
grep -E '[0-9] (of|failed|kills|lost|upgrades)|test result|^FAILED|panicked' target/figures.log; \
if [ $$ended != 0 ]; then sed -n '/^failures:/,$$p' target/figures.log; exit $$ended; fi
endef

bench: need
	bench/gateway
	bench/edge
	bench/migrate

# A real sshd, sudo, and namespaces, as root on Debian; installs what it needs of them.
servers: need
	@packages=; \
	command -v sshd > /dev/null || test -x /usr/sbin/sshd || packages="$$packages openssh-server"; \
	command -v sudo > /dev/null || packages="$$packages sudo"; \
	command -v ip > /dev/null || packages="$$packages iproute2"; \
	command -v curl > /dev/null || packages="$$packages curl"; \
	if [ "$$(id -u)" != 0 ]; then echo "as root: make servers"; exit 1; fi; \
	if [ -n "$$packages" ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$packages; \
	fi
	cargo build --locked -p tow --examples --bin tow
	lab/servers target

# Engines of the tests' own, in a network of their own: no rule for packets is left on the machine.
containers: need
	@if [ "$$(id -u)" != 0 ]; then echo "as root: make containers"; exit 1; fi; \
	packages=; \
	test -x /usr/sbin/dockerd || packages="$$packages docker.io"; \
	command -v docker-registry > /dev/null || packages="$$packages docker-registry"; \
	command -v ip > /dev/null || packages="$$packages iproute2"; \
	if [ -n "$$packages" ]; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$packages; \
	fi
	cargo build --locked -p tow --examples
	cargo test --locked -p tow --test containers --no-run
	unshare --net --mount sh -c 'ip link set lo up && exec \
	  cargo test --locked --offline -p tow --test containers -- --nocapture --test-threads=1'

# Says what it needs of Node 20, npm, a C++ compiler and PostgreSQL. PARTS="first upgrade" does these only; what npm has
# fetched stays in FLOWSTACK from one time to the next.
ENGINE ?= both
FLOWSTACK ?= /var/tmp/tow-flowstack
flowstack: need
	cargo build --locked -p tow
	lab/flowstack target $(FLOWSTACK) $(ENGINE) $(PARTS)

# Debian's own Node may be too old; npm and pip fetch what is locked, and keep it in FOCUSFLOW from one time to the next.
FOCUSFLOW ?= /var/tmp/tow-focusflow
focusflow: need databases
	@missing=; \
	for each in chromium:chromium pip3:python3-pip psql:postgresql redis-server:redis-server setpriv:util-linux; do \
	  command -v $${each%%:*} > /dev/null || missing="$$missing $${each##*:}"; \
	done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" != 0 ]; then echo "missing; as root: apt-get install -y$$missing"; exit 1; fi; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	fi; \
	node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 9) ? 0 : 1)' 2> /dev/null \
	  && command -v npm > /dev/null || { echo "missing: Node 20.9 or later, with npm: https://nodejs.org"; exit 1; }
	cargo build --locked -p tow
	lab/focusflow target $(FOCUSFLOW) $(PARTS)

tls: need
	@missing=; \
	for each in pebble:pebble h2load:nghttp2-client curl:curl chromium:chromium certutil:libnss3-tools openssl:openssl; do \
	  command -v $${each%%:*} > /dev/null || missing="$$missing $${each##*:}"; \
	done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" != 0 ]; then echo "missing; as root: apt-get install -y$$missing"; exit 1; fi; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; \
	fi
	cargo build --locked -p tow -p towpath-gateway --examples
	cargo test --locked -p tow --test tls -- --nocapture
	$(MAKE) --no-print-directory $(WSTEST)/bin/wstest
	bench/websocket $(WSTEST) $(CASES)

$(WSTEST)/bin/wstest:
	@$(PYTHON2) -c '' || { echo "missing: Python 2.7, for autobahntestsuite: pyenv install 2.7.18, or make tls PYTHON2=..."; exit 1; }
	rm -rf $(WSTEST)
	$(PYTHON2) -m pip install --disable-pip-version-check --quiet --target $(WSTEST).new autobahntestsuite==0.8.2
	# Beside each other in one folder, parts of a name space need somebody to hold them together.
	touch $(WSTEST).new/zope/__init__.py
	mv $(WSTEST).new $(WSTEST)

# What they are made of is fetched once, into a folder of its own.
MIGRATORS := target/migrators

migrators: need databases
	@command -v node > /dev/null && command -v npm > /dev/null || { echo "missing: node and npm"; exit 1; }
	$(MAKE) --no-print-directory $(MIGRATORS)/python $(MIGRATORS)/node
	cargo build --locked -p tow --examples
	TOWPATH_MIGRATORS=$(CURDIR)/$(MIGRATORS) cargo test --locked -p tow --test migrators -- --nocapture --test-threads=1

$(MIGRATORS)/python:
	rm -rf $@.new
	python3 -m pip install --disable-pip-version-check --quiet --target $@.new alembic==1.20.1 sqlalchemy==2.1.9 pg8000==1.31.6
	mv $@.new $@

$(MIGRATORS)/node:
	rm -rf $@.new
	mkdir -p $@.new
	npm install --prefix $@.new --no-audit --no-fund --no-save --ignore-scripts node-pg-migrate@9.0.0 pg@8.23.1
	mv $@.new $@

# Says what is missing, with the line that installs it.
need:
	@missing=; \
	command -v git > /dev/null || missing="$$missing git"; \
	command -v cc > /dev/null || missing="$$missing gcc libc6-dev"; \
	command -v python3 > /dev/null || missing="$$missing python3"; \
	if [ -n "$$missing" ]; then \
	  echo "missing:$$missing"; \
	  echo "  as root: apt-get install -y$$missing"; \
	  echo "  or let 'make setup' install it"; \
	  exit 1; \
	fi
	@have=$$(cargo --version 2> /dev/null | cut -d' ' -f2); \
	if [ -z "$$have" ]; then \
	  echo "missing: Rust $(RUST) or later"; \
	elif [ "$$(printf '%s\n' $(RUST) "$$have" | sort -V | head -1)" != $(RUST) ]; then \
	  echo "too old: Rust $$have; it has to be $(RUST) or later"; \
	elif ! cargo clippy --version > /dev/null 2>&1 || ! cargo fmt --version > /dev/null 2>&1; then \
	  echo "missing: clippy or rustfmt"; \
	  echo "  rustup component add clippy rustfmt"; \
	  exit 1; \
	else \
	  exit 0; \
	fi; \
	echo "  curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy,rustfmt"; \
	echo "  or let 'make setup' install it"; \
	exit 1

# Debian packages as root; Rust for whoever calls it, unless there is some.
setup:
	@packages=; \
	command -v git > /dev/null || packages="$$packages git"; \
	command -v cc > /dev/null || packages="$$packages gcc libc6-dev"; \
	command -v python3 > /dev/null || packages="$$packages python3"; \
	command -v cargo > /dev/null || command -v curl > /dev/null || packages="$$packages curl ca-certificates"; \
	if [ -n "$$packages" ]; then \
	  if [ "$$(id -u)" != 0 ]; then echo "as root: apt-get install -y$$packages"; exit 1; fi; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$packages; \
	fi
	@if ! command -v cargo > /dev/null; then \
	  curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy,rustfmt; \
	fi
	@$(MAKE) --no-print-directory need && echo "all is there"

clean:
	cargo clean
	rm -rf systems/*/target systems/*/.tow
