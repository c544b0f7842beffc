# make demo    the whole story on this machine, in a lab of its own     KEEP=1 leaves the lab up
# make test    everything that is checked                              make bench   everything that is measured

VENV ?= .venv
MODERN = import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do $$p -c '$(MODERN)' 2>/dev/null && echo $$p && break; done)
BIN = $(VENV)/bin

.PHONY: demo test unit bench down clean

demo: $(VENV)/lab.ready
	$(BIN)/python -m tests.lab demo $(if $(KEEP),--keep)

test: $(VENV)/test.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile

unit: $(VENV)/test.ready
	$(BIN)/pytest tests/unit

bench: $(VENV)/lab.ready
	$(BIN)/python -m tests.lab bench

down: $(VENV)/lab.ready
	$(BIN)/python -m tests.lab down

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/%.ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -qy python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@
