# The commands of the project. The environment is created once, in .venv, from the pinned versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

.PHONY: demo test test-all check lint setup train bench results figures site tour release lock clean

demo: setup  ## compare two texts with the default model, and write the figure demo.png
	$(BIN)/conjure compare "smiling face" "crying face" --figure demo.png

test: setup  ## the tests that take at most 8 minutes in all, offline, on the CPU
	$(PYTEST) -m "not slow"

test-all: setup  ## every test
	$(PYTEST)

check: lint test  ## what must pass before a commit

lint: setup  ## linter, formatter, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Conjure needs Python 3.11 or newer, this is " + sys.version if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check --editable ".[test,train,bench,app,docs,ray,video]"
	touch $@

train: setup  ## train the default model; after a stop the same command resumes
	$(BIN)/python training/train.py

bench: setup  ## measure the speed figures of the documentation, each a ratio within one run
	$(BIN)/python benchmarks/pair.py
	$(BIN)/python benchmarks/many.py
	$(BIN)/python benchmarks/app.py

results: setup  ## measure the default model: all tables and figures; after a stop the same command resumes
	$(BIN)/python results/build_results.py $(if $(DATA),--data $(DATA))

figures: setup  ## draw the figures of the paper with the default model, in docs/figures
	$(BIN)/python results/paper_figures.py

site: setup  ## build the documentation site in the folder site
	$(BIN)/python -m mkdocs build --strict

tour: setup  ## run the notebook docs/tour.ipynb and store its output
	PYTHONWARNINGS=ignore $(BIN)/jupyter execute --inplace docs/tour.ipynb

release:  ## build wheel, source distribution, bill of materials and hashes of the last commit in dist, and test them (docs/howto/release.md)
	$(PYTHON) release/release.py

lock: setup  ## update the hashes of every file that a release is built with or contains
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	PATH="$(CURDIR)/$(BIN):$$PATH" release/lock.sh

clean:
	rm -rf .venv
