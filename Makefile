# `make up` and `make test` do everything that they need, on a Debian 12 machine with cargo.

CARGO ?= cargo

# Servers run as the user postgres and in network namespaces, so what starts them runs as root; cargo itself does not.
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
ifneq ($(shell id -u),0)
export CARGO_TARGET_$(HOST)_RUNNER := sudo -E
endif

# The suites of drivers and frameworks; each is a script of scripts/suites, which says what it needs.
SUITES := psycopg asyncpg node-postgres tokio-postgres jdbc sqlalchemy django

# The manager's web page is taken in where it can be built.
BUILT_PAGE := manager/web/dist/index.html
PAGE := $(shell scripts/can-build-page && echo page)

.DEFAULT_GOAL := help
.PHONY: help up test thorough setup bench bench-quick instructions faults kills mutants pgpool soak differential hostile fuzz fuzz-seeds sbom audit coverage regress corpus reads drivers $(SUITES) images page browser test-images deb fmt lint clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

up: setup $(PAGE) ## Start three PostgreSQL servers with pgherd before them, until Ctrl-C (options: ARGS=--help)
	@echo "==> building pgherd (release)"
	@$(CARGO) build --release --bin pgherd --bin pgherd-up
	@$(CARGO) run --quiet --release --bin pgherd-up -- $(ARGS)

test: $(PAGE) ## Check the formatting and the lints, then run every test on real servers
	@scripts/setup test
	@echo "==> formatting"
	@$(CARGO) fmt --all --check
	@echo "==> lints (make lint: those of the tests, too)"
	@$(CARGO) clippy --workspace -- -D warnings
	@echo "==> building"
	@$(CARGO) build --workspace
	@echo "==> tests"
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --workspace --no-fail-fast && $(CARGO) test --workspace --doc; \
	else \
		$(CARGO) test --workspace --no-fail-fast; \
	fi
	@echo "==> instructions of a transaction"
	@CARGO="$(CARGO)" scripts/hot-path-instructions
	@echo "==> a part of asyncpg's own suite"
	@scripts/suites/smoke
	@echo "==> the images' scripts, without an engine"
	@scripts/test-images --without-engine
	@echo "==> the manager's page, in a browser"
	@$(if $(PAGE),$(MAKE) --no-print-directory browser ARGS=--smoke,echo "LEFT OUT: there is no npm with Node.js 20.19 here, so the page is NOT tested")

thorough: ## Run every test, also those that CI has no time for
	@scripts/setup test
	@$(CARGO) nextest run --workspace --no-fail-fast --ignore-default-filter

setup: ## Install the Debian packages that are missing
	@scripts/setup

fuzz: ## Campaigns of libFuzzer: each target, or TARGET alone, for MINUTES (1); MERGE=1 makes the corpora small
	@scripts/fuzz

fuzz-seeds: setup ## Record seeds for the fuzzer: what psql and pgbench say to a PostgreSQL
	@$(CARGO) test --package pgherd-fuzz --test thrown -- --ignored seeds_are_recorded

bench: ## Measure pgherd beside pgbouncer, pgpool, haproxy and a plain relay (options: ARGS=--help)
	@scripts/setup bench
	@echo "==> building pgherd and the benchmark (release)"
	@$(CARGO) build --release --bin pgherd --bin pgherd-bench
	@$(CARGO) run --quiet --release --bin pgherd-bench -- $(ARGS)

bench-quick: ## The same in under three minutes: one workload, three rounds, and idle clients
	@$(MAKE) --no-print-directory bench ARGS="--quick $(ARGS)"

instructions: setup ## Count the instructions of a transaction in the whole of pgherd, and compare with what is recorded (ARGS=--record)
	@echo "==> building pgherd and the benchmark (release)"
	@$(CARGO) build --release --bin pgherd --bin pgherd-bench
	@$(CARGO) run --quiet --release --bin pgherd-bench -- count --recorded benches/instructions.json $(ARGS)

faults: setup ## Faults of every kind under a workload that checks itself, and the outages (FAULTS=100, SEED=1, ARGS=--help)
	@echo "==> building (release)"
	@$(CARGO) build --release --bin pgherd --bin pgherd-faults
	@$(CARGO) run --quiet --release --bin pgherd-faults -- $(ARGS)

pgpool: ## pgpool and pgherd lose their primaries side by side (PGPOOL=5 times in each way)
	@scripts/setup pgpool
	@echo "==> building (release)"
	@$(CARGO) build --release --bin pgherd --bin pgherd-faults
	@PGPOOL=$${PGPOOL:-5} $(CARGO) run --quiet --release --bin pgherd-faults -- --faults=0 --switchovers=0 --cut-off=0

mutants: setup ## Take each safeguard out of the decision machine: does the simulation notice? (half an hour; PGHERD_MUTANT=text)
	@$(CARGO) test --package pgherd-failover --test mutants -- --ignored --nocapture

kills: setup ## Kill pgherd with SIGKILL again and again under a workload that checks itself (KILLS=100)
	@PGHERD_KILLS=$${KILLS:-100} $(CARGO) test --package pgherd --test failover killed:: -- --nocapture

soak: setup ## Storms of clients, then all kinds of work over a herd that fails; everything has to add up (MINUTES=10, SOAK_SEED=1)
	@echo "==> building (release)"
	@$(CARGO) build --release --bin pgherd --bin pgherd-soak
	@$(CARGO) run --quiet --release --bin pgherd-soak -- $(ARGS)

sbom: ## Write what pgherd is made of to target/pgherd.cdx.json, in CycloneDX's form
	@mkdir -p target
	@$(CARGO) run --quiet --bin pgherd-sbom > target/pgherd.cdx.json
	@echo "==> target/pgherd.cdx.json"

audit: ## Hold all dependencies against deny.toml and RustSec's advisories (needs a network, and cargo-deny: cargo install cargo-deny)
	@$(CARGO) deny check

differential: setup ## The same messages, by chance, to PostgreSQL and through pgherd: what is not answered alike (SEQUENCES=100000 SEED=1 MODES=...)
	@echo "==> building (release)"
	@$(CARGO) build --release --bin pgherd --bin pgherd-differential
	@$(CARGO) run --quiet --release --bin pgherd-differential -- $(ARGS)

hostile: setup ## Attacks of every kind, the memory that they take, and what well-behaved clients notice (HOSTILE_SECONDS=30)
	@echo "==> building (release)"
	@$(CARGO) build --release --bin pgherd --bin pgherd-hostile
	@$(CARGO) run --quiet --release --bin pgherd-hostile -- $(ARGS)

coverage: setup ## Which lines of protocol, health and failover their tests run, in per cent (needs LLVM's tools in rustc's version)
	@CARGO="$(CARGO)" scripts/coverage

regress: setup ## Run PostgreSQL's own regression suite directly and through pgherd, and compare
	@scripts/regress

corpus: setup ## Run what may be read anywhere of PostgreSQL's own suite on a primary and on a standby, and compare (CORPUS=test)
	@suite=$$(scripts/postgres-suite) && PGHERD_REGRESS=$$suite PGHERD_CORPUS_TESTS="$$CORPUS" \
		$(CARGO) test --package pgherd --test corpus -- --ignored --nocapture

reads: setup ## Reads on standbys at length: own writes behind delayed replay, and pgbench -S (READS=100000)
	@PGHERD_READS=$${READS:-100000} $(CARGO) test --release --package pgherd --test failover own_writes -- --nocapture --test-threads=1

drivers: setup ## Run the drivers' own suites directly and through pgherd, and compare (one alone: make psycopg, ...)
	@failed=; for suite in $(SUITES); do scripts/suites/$$suite || failed="$$failed $$suite"; done; \
	if [ -n "$$failed" ]; then echo "drivers: see above:$$failed"; exit 1; fi

$(SUITES): setup
	@scripts/suites/$@

images: $(PAGE) ## Build the images pgherd and pgherd-postgres (ARGS=--offline where no registry of images can be reached)
	@images/build.sh $(ARGS)

test-images: ## Test the images with a real engine: every compose file, kills, wrong variables (DEBIAN=bookworm; ARGS=name...)
	@scripts/test-images $(ARGS)

page: $(BUILT_PAGE) ## Build the manager's web page, which the next build of pgherd takes in (needs Node.js 20)

# Only when it has changed: pgherd is compiled anew with it.
$(BUILT_PAGE): $(shell find manager/web -path '*/node_modules' -prune -o -path '*/dist' -prune -o -path '*/tests' -prune -o -type f -print)
	@cd manager/web && npm ci --no-audit --no-fund && npm run build

browser: page ## Look at the manager's page with a real browser, under load and while the primary is killed (ARGS=--smoke)
	@scripts/setup browser
	@cd manager/web && npm run check && npx tsc -p tests
	@$(CARGO) build --bin pgherd --bin pgherd-browser
	@$(CARGO) run --quiet --bin pgherd-browser -- $(ARGS)

deb: $(PAGE) ## Build a package for Debian, with systemd units (needs cargo-deb: cargo install cargo-deb)
	@$(CARGO) deb --package pgherd

fmt: ## Format the code
	@$(CARGO) fmt --all

lint: ## Check the lints alone
	@$(CARGO) clippy --workspace --all-targets -- -D warnings

clean: ## Remove what was built
	@$(CARGO) clean
