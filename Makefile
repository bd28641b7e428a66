# `make demo` and `make test` need Python >= 3.11, a Rust toolchain and a C compiler; everything else comes by pip and
# cargo. `make help` lists the rest.

PYTHON  ?= python3
# The Cargo profile of the installed wheel: release (fat LTO), fast (links in seconds), profiling.
PROFILE ?= release

VENV    := .venv
BIN     := $(VENV)/bin
TARGET  := $(or $(CARGO_TARGET_DIR),target)
WHEELS  := $(TARGET)/wheels/$(PROFILE)
# What the tests of the last run did, for `make conformance`.
RESULTS := $(TARGET)/test-results
DENY    := $(or $(shell command -v cargo-deny 2>/dev/null),$(wildcard $(TARGET)/tools/bin/cargo-deny))
RUST    := $(shell find rust -name '*.rs' -o -name 'Cargo.toml') Cargo.toml Cargo.lock
SOURCES := $(RUST) pyproject.toml README.md $(shell find python -type f -not -name '*.so' -not -name '*.pyc')

# Tests left out of the default run; they need Go, a browser, or minutes.
SKIP    := not interop and not stress$(if $(BROWSER),, and not browser)

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-rust test-python test-browser test-interop conformance stress soak sim sim-short fuzz build develop format lint layers bench bench-quick clean tools

help:
	@echo "make demo      build, then show streams and datagrams between two processes (5 s)"
	@echo "make serve     the echo server and its page for a browser"
	@echo "make test      Rust and Python tests (BROWSER=1: with Chromium and Firefox)"
	@echo "make conformance  after make test: each rule of docs/conformance has its proof"
	@echo "make test-interop  against webtransport-go (needs Go)"
	@echo "make develop   an editable install for working on the Python code (Cargo profile fast)"
	@echo "make format    let the formatters rewrite the sources"
	@echo "make lint      formatting, clippy, ruff, mypy, stubtest, layer rules, cargo deny if installed"
	@echo "make stress    the stress tests (minutes)"
	@echo "make soak      200 sessions for 10 minutes: leaks, hangs, counters (SECONDS=60; SOAK_SEED=... to replay)"
	@echo "make fuzz      the fuzz targets of rust/proto, 60 s each (SECONDS=600, FUZZ='frame session')"
	@echo "make sim       200 seeds of an hour on a simulated network (minutes); sim-short: of ten minutes each"
	@echo "make bench     benchmarks, 15 minutes, see benches/README.md; bench-quick: a look, 2 minutes"
	@echo "make clean     remove what was built here (.venv, target, dist)"
	@echo "Options: PYTHON=python3.13, PROFILE=fast (a quicker build), CARGO_TARGET_DIR"

demo: build
	$(BIN)/python -m pywebtransport demo

serve: build
	$(BIN)/python -m pywebtransport serve

test: test-rust test-python

# The binding has no Rust tests of its own, tests/ covers it; and linking one would need Python's development files.
test-rust: | tools
	@mkdir -p "$(RESULTS)" && rm -f "$(RESULTS)"/*.txt
	bash -o pipefail -c 'cargo test --workspace --exclude wt-py --locked --no-fail-fast 2>&1 | tee "$(RESULTS)/rust.txt"'

test-python: build $(VENV)/.dev
	@mkdir -p "$(RESULTS)" && rm -f "$(RESULTS)"/*.xml
	$(BIN)/python -m pytest -m "$(SKIP)" --junitxml="$(RESULTS)/python.xml"

conformance:
	@.ci/check-conformance "$(RESULTS)"

test-interop: build $(VENV)/.dev
	$(BIN)/python -m pytest -m interop

test-browser: build $(VENV)/.dev
	$(BIN)/python -m pytest -m browser

stress: build $(VENV)/.dev
	$(BIN)/python -m pytest -m stress

soak: build $(VENV)/.dev
	SOAK_SECONDS=$(or $(SECONDS),600) $(BIN)/python -m pytest -s tests/soak

fuzz: | tools
	CARGO_TARGET_DIR="$(TARGET)" rust/proto/fuzz/run $(or $(SECONDS),60) $(FUZZ)

# Seeds that fail name the command that repeats them.
SIMULATE = cargo test --profile fast --locked -p wt-io --test sim -- --ignored --exact --nocapture many_seeds

sim: | tools
	SIM_SEEDS=200 SIM_SECONDS=3600 $(SIMULATE)

sim-short: | tools
	SIM_SEEDS=200 SIM_SECONDS=600 $(SIMULATE)

# ---------------------------------------------------------------------------------------------------------------------
# One build for demo, test, lint and bench: a wheel, installed as a user installs it. An editable install is not used
# there, because it hides what the wheel lacks (a file that was not packaged) and a stale _core*.so beside the sources
# would shadow a fresh build. Repeating the install costs 2 s when no Rust file changed.
build: $(VENV)/.installed-$(PROFILE)

$(VENV)/.installed-$(PROFILE): $(SOURCES) | tools $(VENV)/.build
	@rm -f $(VENV)/.installed-* $(WHEELS)/*.whl
	$(BIN)/maturin build --locked --profile $(PROFILE) --interpreter $(BIN)/python --auditwheel skip --out "$(WHEELS)"
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps --no-index "$(WHEELS)"/*.whl
	@touch $@

# For the edit-run loop `maturin develop` is the quickest: Python changes need no step at all, a Rust change one link
# without LTO. Any other target replaces it by the wheel again.
develop: $(VENV)/.dev
	@rm -f $(VENV)/.installed-*
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/maturin develop --locked --profile fast

# Each tool that pip cannot bring is asked for by name, before anything else happens.
tools:
	@command -v cargo >/dev/null || { echo "make: no cargo here: install Rust 1.90 or newer (rustup)"; exit 1; }
	@rustc --version | awk '{ split($$2, v, "."); exit !(v[1] > 1 || v[2] >= 90) }' || { echo "make: $$(rustc --version) is too old: install Rust 1.90 or newer (rustup update)"; exit 1; }
	@command -v cc >/dev/null || command -v clang >/dev/null || { echo "make: no C compiler here: install gcc or clang (package build-essential)"; exit 1; }

$(VENV)/.created: | tools
	@command -v "$(PYTHON)" >/dev/null || { echo "make: no $(PYTHON) here: install Python 3.11 or newer, or name one with PYTHON=..."; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $$("$(PYTHON)" --version) is too old: install Python 3.11 or newer, or name one with PYTHON=..."; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo "make: $(PYTHON) lacks venv: install the package python3-venv"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' # dependency groups
	@touch $@

$(VENV)/.build: $(VENV)/.created pyproject.toml | tools
	$(BIN)/python -m pip install --quiet --group build
	@touch $@

$(VENV)/.dev: $(VENV)/.created pyproject.toml | tools
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@ $(VENV)/.build

# ---------------------------------------------------------------------------------------------------------------------
format: $(VENV)/.dev
	cargo fmt --all
	cargo fmt --manifest-path rust/proto/fuzz/Cargo.toml
	cargo fmt --manifest-path benches/baseline/Cargo.toml
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# `make --keep-going lint` runs them all although one failed.
.PHONY: lint-rust lint-format lint-documentation lint-python lint-types lint-dependencies
lint: layers lint-format lint-rust lint-documentation lint-python lint-types lint-dependencies

layers: | tools
	@.ci/check-layers

lint-format: $(VENV)/.dev
	cargo fmt --all --check
	cargo fmt --manifest-path rust/proto/fuzz/Cargo.toml --check
	cargo fmt --manifest-path benches/baseline/Cargo.toml --check
	$(BIN)/ruff format --check .

lint-rust: $(VENV)/.created
	PYO3_PYTHON="$(CURDIR)/$(BIN)/python" cargo clippy --workspace --all-targets --locked -- -D warnings
	CARGO_TARGET_DIR="$(TARGET)/fuzz/build" cargo clippy --manifest-path rust/proto/fuzz/Cargo.toml --all-targets --locked -- -D warnings
	CARGO_TARGET_DIR="$(TARGET)/baseline" cargo clippy --manifest-path benches/baseline/Cargo.toml --all-targets --locked -- -D warnings

lint-documentation: $(VENV)/.created
	PYO3_PYTHON="$(CURDIR)/$(BIN)/python" RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet

lint-python: $(VENV)/.dev
	$(BIN)/ruff check .

lint-types: build $(VENV)/.dev
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest pywebtransport._core

lint-dependencies: | tools
ifneq ($(DENY),)
	$(DENY) --all-features check --hide-inclusion-graph licenses bans sources
else
	@echo "lint: cargo-deny is not installed, its checks are left to CI (cargo install --locked cargo-deny)"
endif

# Short measurements: the parsers and the bridge vary little.
bench: build $(VENV)/.dev
	cargo bench --locked -p wt-proto -p wt-io --bench parse --bench bridge -- --warm-up-time 0.3 --measurement-time 0.6
	$(BIN)/python -m benches.bench --json "$(TARGET)/bench.json" --plots "$(TARGET)/bench-plots"

bench-quick: build $(VENV)/.dev
	$(BIN)/python -m benches.bench --quick

clean:
	rm -rf $(VENV) dist python/pywebtransport/_core*.so python/pywebtransport/_core*.pyd
	$(if $(CARGO_TARGET_DIR),@echo "clean: $(CARGO_TARGET_DIR) is shared and stays",rm -rf target)
