# Every target first makes .venv from the hash-pinned lock. Needed: Python 3.11 or later.

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
UV := uv==0.13.9

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: demo node serve test check check-migrations bench load simulate simulate-mutants chaos federation mutate docs migration lock clean

demo: .venv/ready node  ## the whole coalition day, played from outside; ends 0 only if it all holds
	$(BIN)/gateway demo $(ARGS)

node: .venv/ready  ## npm packages of the hotel's stand-in; without npm or network it runs in Python
	@$(BIN)/python -m partners.simulators.hotel_graph.packages

serve: .venv/ready  ## gateway, worker and partner stand-ins, until stopped
	$(BIN)/gateway serve $(ARGS)

# Modules in the order of their names: by size, xdist would start the few long tests of e2e last.
test: .venv/ready node  ## all tests, on SQLite and PostgreSQL; ARGS="-k word" picks some
	$(BIN)/python -m pytest --numprocesses auto --dist loadscope --no-loadscope-reorder $(ARGS)

check: .venv/ready  ## style, types, import directions, generated docs, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/gateway docs --check
	$(BIN)/python -m gateway.migrations.generate --check

check-migrations: .venv/ready  ## each revision expands or contracts, released ones as they were
	$(BIN)/python -m gateway.migrations.generate --check

bench: .venv/ready  ## figures as ratios to a floor measured in the same run
	$(BIN)/python -m tests.bench $(ARGS)

load: .venv/ready  ## over HTTP on PostgreSQL, beside raw SQL; ARGS="[mixed|stop|hot|close] --minutes 10"
	$(BIN)/python -m tests.load $(ARGS)

SEEDS ?= 1000
FIRST ?= 1
simulate: .venv/ready  ## the services under faults, seed by seed: SEEDS=10000 FIRST=1, or SEED=7 with its trace
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST) $(if $(SEED),--seed $(SEED)) $(ARGS)

simulate-mutants: .venv/ready  ## plant faults in the services and see that the simulation finds them
	$(BIN)/python -m tests.simulation --mutants $(ARGS)

chaos: .venv/ready  ## 500 kill -9 under load, and three books compared; ARGS="--seed 2 --kills 50"
	$(BIN)/python -m tests.chaos $(ARGS)
	$(BIN)/python -m pytest -m campaign --ignore=tests/federation

MINUTES ?= 10
federation: .venv/ready  ## random operations, federations and failures; MINUTES=10 of mutated texts
	$(BIN)/python -m pytest -m campaign tests/federation --numprocesses auto $(ARGS)
	$(BIN)/python -m tests.federation.fuzz --minutes $(MINUTES)

mutate: .venv/ready  ## change the code, see that tests notice; ARGS="points/holding --sample 60 --seed 2"
	$(BIN)/python -m tests.mutation $(ARGS)

docs: .venv/ready  ## write the generated pages of docs/ again
	$(BIN)/gateway docs

migration: .venv/ready  ## write the next revision from the tables; ARGS="what it is for"
	$(BIN)/python -m gateway.migrations.generate $(ARGS)

lock:  ## resolve pyproject.toml again; ARGS=--upgrade takes newer versions
	$(PYTHON) -m venv .venv/uv
	.venv/uv/bin/python -m pip install --quiet $(UV)
	.venv/uv/bin/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		--no-config --quiet --output-file requirements.lock $(ARGS)

# The packages first: a change of pyproject.toml alone installs only the project again.
.venv/locked: requirements.lock
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	touch $@

.venv/ready: .venv/locked pyproject.toml
	$(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
