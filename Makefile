# Everything a newcomer or CI needs. The environment is made once, in .venv, from the pinned versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check setup train bench results figures site tour release lock clean

demo: setup  ## compare two texts on the model that ships with the package, and write the figure
	$(BIN)/conjure compare "snow leopard" "bengal tiger" --figure demo.png

test: setup  ## the tests, offline, on the CPU
	$(BIN)/pytest

check: setup  ## everything CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Conjure needs Python 3.11 or newer, this is " + sys.version if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --disable-pip-version-check --editable ".[test,train,bench,app,docs,ray]"
	touch $@

train: setup  ## train the default model; stop it at any time, the same command goes on
	$(BIN)/python training/train.py

bench: setup  ## the speed figures of the documentation, each a ratio measured in one run
	$(BIN)/python benchmarks/pair.py
	$(BIN)/python benchmarks/many.py
	$(BIN)/python benchmarks/app.py

results: setup  ## how well the default model agrees with people, all tables and figures; stop it at any time, the same command goes on
	$(BIN)/python results/make.py $(if $(DATA),--data $(DATA))

figures: setup  ## the figures of the paper on the default model, in docs/figures
	$(BIN)/python results/paper.py

site: setup  ## the documentation as a site, in the folder site
	$(BIN)/python -m mkdocs build --strict

tour: setup  ## run the notebook, and keep what it shows
	PYTHONWARNINGS=ignore $(BIN)/jupyter execute --inplace docs/tour.ipynb

release:  ## wheel, source distribution, bill of materials and hashes of the last commit in dist, tried out (docs/howto/release.md)
	$(PYTHON) release/release.py

lock: setup  ## every file that a release is built with or brings along, by its hash
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	PATH="$(CURDIR)/$(BIN):$$PATH" release/lock.sh

clean:
	rm -rf .venv
