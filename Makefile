# make grow: from nothing to a chat.   make test: the tests.   make quick: the fast ones.   make check: lint and types.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: grow test quick check setup clean
grow: setup
	$(BIN)/sprout grow

test: setup
	$(BIN)/ruff check sprout tests
	$(BIN)/mypy sprout
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests

quick: setup
	$(BIN)/python -m pytest tests -m "not slow"

check: setup
	$(BIN)/ruff check sprout tests
	$(BIN)/mypy sprout
	$(BIN)/lint-imports

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt $(wildcard sprout/*/*.c sprout/*/*.h)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e ".[dev]"
	touch .venv/ready

clean:
	rm -rf .venv build *.egg-info
