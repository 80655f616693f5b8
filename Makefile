# One command from a clone to a running broker. Needs git, make and Python 3.11 or newer; nothing else.
#
#   make demo      set up, then 336,776 flights in and out through three consumers
#   make test      set up, then every test and every check
#   make test-kafka  librdkafka's own test suite against the Kafka gateway (needs Debian's source package)
#   make lint      only the checks: ruff, mypy, import rules, generated pages
#   make format    let ruff write the format that `make lint` wants
#   make bench     compare with the bare machine; numbers go to bench/results/
#   make bench-kafka     confluent-kafka through the gateway, beside what it can do by itself
#   make bench-compare   what moved beyond noise since the baseline
#   make bench-peers     the same load on Kafka, Redis, NATS and RabbitMQ (see docs/benchmarks.md)
#   make torture   a real broker under load, killed and stopped; then the verdict (TORTURE_ARGS)
#   make soak      the same for an hour with retention on; memory and disk must stay flat (SOAK_SECONDS)
#   make fuzz      bytes for everything that reads what it did not write (FUZZ_SECONDS)
#   make mutants   each protection switched off in turn: its test must fail
#   make docs      write the generated pages again
#   make wheels    both distributions into dist/
#   make clean     remove what these commands made (not ./odradek-data)
#
# PYTHON=python3.12 make test    uses that interpreter. The environment is .venv; it is brought up to date
# when a pyproject.toml or the interpreter changes, so a second run needs no network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up-$(notdir $(PYTHON))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST_ARGS ?=
KAFKA_TESTS ?=
BENCH_ARGS ?=
DEMO_ARGS ?=
TORTURE_ARGS ?=
SOAK_SECONDS ?= 3600
FUZZ_SECONDS ?= 130

# Empty is unset: modules compiled anew by every process make each start of a broker half as long again.
export PYTHONDONTWRITEBYTECODE :=
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-kafka lint format bench bench-kafka bench-compare bench-peers torture soak fuzz mutants docs wheels clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#  *\(make .*\)/\1/p' Makefile

setup: $(STAMP)

$(STAMP): pyproject.toml clients/python/pyproject.toml
	@tools/make_venv $(PYTHON) $(VENV)
	@echo "installing both distributions and the development tools into $(VENV) (about a minute)"
	@$(PIP) install --editable 'clients/python[cli]' --editable '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/odradek demo $(DEMO_ARGS)

test: lint
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-kafka: $(STAMP)
	@$(BIN)/python tools/librdkafka_suite.py $(KAFKA_TESTS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python tools/generate_docs.py --check
	@$(BIN)/python tools/make_group_docs.py --check

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP)
	@$(BIN)/python -m bench $(BENCH_ARGS)

bench-kafka: $(STAMP)
	@$(BIN)/python -m bench kafka $(BENCH_ARGS)

bench-compare: $(STAMP)
	@$(BIN)/python -m bench.compare $(BENCH_ARGS)

bench-peers: $(STAMP)
	@$(PIP) install --editable '.[peers]'
	@$(BIN)/python -m bench.peers --life $(BENCH_ARGS)

torture: $(STAMP)
	@$(BIN)/python -m tests.torture $(TORTURE_ARGS)

soak: $(STAMP)
	@$(BIN)/python -m tests.torture --soak --seconds $(SOAK_SECONDS) $(TORTURE_ARGS)

fuzz: $(STAMP)
	@$(PIP) install --editable '.[fuzz]' || echo "no atheris for this Python: random bytes instead"
	@$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

mutants: $(STAMP)
	@$(BIN)/python -m tests.mutants

docs: $(STAMP)
	@$(BIN)/python tools/generate_docs.py
	@$(BIN)/python tools/make_group_docs.py

wheels: $(STAMP)
	@$(PIP) wheel --no-deps --wheel-dir dist ./clients/python .
	@ls dist/*.whl

clean:
	rm -rf $(VENV) dist bench/results .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
