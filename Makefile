# make demo    the whole story on this machine, in a lab of its own     KEEP=1 leaves the lab up
# make test    everything that is checked                              make bench   everything that is measured
# make lint    all that is checked without running anything           make map     rooms, their size, and what imports what
# make oracle  compares what is read with compose-go, and has a kube-apiserver look at what is exported, with Go on the machine;
#              ACCEPT=1 records their answers   COUNT=2000 SEED=1
# make chaos   random commits and faults on a lab server, each to its end      MINUTES=10 SEED=n ONLY="a fault"
# make search the property tests with ten times as many examples as in make test, and others each time
# make fuzz    whatever comes from outside, changed at random                  MINUTES=10 or COUNT=1000, SEED=n
# make coverage the share of each room's statements that the unit and contract tests run
# make site    the manual as a web site, in site/
# make pythons the unit tests on each Python from 3.11 to 3.14 that is here
# make package the Debian package, below dist, for the Debian of the lab's servers
# make release VERSION=x.y.z   wheel, sdist, Debian package, SBOM and checksums of the tagged commit, below dist; publishes nothing
# make lock    renews the lock files, with the hashes of every file that PyPI has of a version

VENV ?= .venv
MODERN = import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do $$p -c '$(MODERN)' 2>/dev/null && echo $$p && break; done)
BIN = $(VENV)/bin
PYTHONS = 3.11 3.12 3.13 3.14
OTHERS = import sys; print(*[one for one in sys.argv[1:] if one != "%d.%d" % sys.version_info[:2]])

# Fresh machines have an old pip: nothing here is newer than that of Debian 12.
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check
LOCK = UV_CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-emit-index-url --no-emit-find-links --no-annotate

unexport PYTHONDONTWRITEBYTECODE  # or every run compiles all tests anew

.PHONY: demo test lint unit pythons oracle chaos search fuzz coverage map bench site package release down lock clean

demo: $(VENV)/lab.ready
	$(BIN)/python -m tests.lab demo $(if $(KEEP),--keep)

# Files are given out as they stand: by their number of tests, the slowest would come last, and alone.  Lab servers idle
# most of the time, so there is one process more than this takes of a machine with two cores.
test: lint
	@$(MAKE) --no-print-directory pythons PYTHONS="$$($(BIN)/python -c '$(OTHERS)' $(PYTHONS))"
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --hypothesis-profile=thorough

lint: $(VENV)/test.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

unit: $(VENV)/test.ready
	$(BIN)/pytest $(OPTIONS) tests/unit

pythons: $(PYTHONS:%=unit-%)

# On the path, or where pyenv or uv keep it; asked to start, as pyenv has a command for versions that are not in use, too.
unit-%:
	@for python in python$* $${PYENV_ROOT:-~/.pyenv}/versions/$*.*/bin/python ~/.local/share/uv/python/cpython-$*.*/bin/python; do \
		$$python -c '' 2>/dev/null && exec $(MAKE) --no-print-directory VENV=$(VENV)/python$* PYTHON=$$python OPTIONS='-n 2' unit; \
	done; echo "Python $* is not on this machine: no unit test was run with it"

oracle: $(VENV)/test.ready
	$(BIN)/python -m tests.oracle $(VENV)/oracle --seed=$(or $(SEED),1) --count=$(or $(COUNT),2000) $(if $(ACCEPT),--accept)
	$(BIN)/python -m tests.oracle.kubernetes $(VENV)/kubernetes --seed=$(or $(SEED),1) $(if $(ACCEPT),--accept)

chaos: $(VENV)/lab.ready
	$(BIN)/python -m tests.lab chaos --minutes=$(or $(MINUTES),10) $(if $(SEED),--seed=$(SEED)) $(if $(ONLY),--only="$(ONLY)")

search: $(VENV)/test.ready
	$(BIN)/pytest -n 2 --hypothesis-profile=search -m hypothesis tests/unit

fuzz: $(VENV)/test.ready
	$(BIN)/python -m tests.fuzz --seed=$(or $(SEED),1) $(if $(COUNT),--count=$(COUNT),--minutes=$(or $(MINUTES),10))

coverage: $(VENV)/test.ready
	$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report=json:coverage.json --quiet tests/unit tests/contract
	$(BIN)/python -m tests.map coverage.json

map: $(VENV)/test.ready
	$(BIN)/python -m tests.map

bench: $(VENV)/lab.ready
	$(BIN)/python -m tests.lab bench

site: $(VENV)/site.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html"

package: $(VENV)/lab.ready
	mkdir -p dist
	$(BIN)/python -m tests.lab package dist

release: $(VENV)/test.ready
	$(BIN)/python -m tests.lab release "$(VERSION)"
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz

down: $(VENV)/lab.ready
	$(BIN)/python -m tests.lab down

lock: $(BIN)/pip
	$(PIP) install uv
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(LOCK) - --output-file build.lock
	$(LOCK) pyproject.toml --extra test --constraint build.lock --output-file test.lock
	$(LOCK) pyproject.toml --extra lab --constraint test.lock --output-file lab.lock
	$(LOCK) pyproject.toml --extra site --constraint test.lock --output-file site.lock
	$(LOCK) pyproject.toml --extra kafka --extra traces --constraint test.lock --output-file server.lock

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# What builds a package is locked as well, so it comes first and nothing is built with anything else.
$(VENV)/%.ready: pyproject.toml build.lock %.lock | $(BIN)/pip
	$(PIP) install --require-hashes --requirement build.lock
	$(PIP) install --require-hashes --requirement $*.lock --no-build-isolation --use-pep517
	$(PIP) install --no-deps --editable . --no-build-isolation
	$(BIN)/python -m pip check
	@touch $@

# Made last: without python3-venv, Debian leaves a folder with a python and no pip.
$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { test "$$(id -u)" = 0 && apt-get update -q && apt-get install -qy python3-venv && $(PYTHON) -m venv $(VENV); }
