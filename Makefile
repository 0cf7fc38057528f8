PYTHON ?= python3
BIN := .venv/bin
CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
export OMP_NUM_THREADS ?= $(CORES)

.PHONY: install help demo test lint fuzz torture clean benchmark

install: .venv/.ready  ## make .venv, once; then `source .venv/bin/activate` puts maekit onto the PATH
	@echo "maekit is in $(BIN). Put it onto the PATH of this shell: source .venv/bin/activate"

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: .venv/.ready  ## simulate, pretrain, fine-tune, compare: about two minutes on two cores
	$(BIN)/maekit demo

test: .venv/.ready  ## all tests but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(CORES) --dist worksteal -m "not slow" --jaxtyping-packages=maekit.core,beartype.beartype

lint: .venv/.ready  ## style, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy maekit
	$(BIN)/mypy adapters --explicit-package-bases
	MYPYPATH=tests:tests/unit/interop $(BIN)/mypy tests --explicit-package-bases
# import-linter sees the package as it is installed, with adapters/ inside.
	rm -rf build/house && mkdir -p build/house && cp -R maekit build/house && cp -R adapters build/house/maekit
	cd build/house && PYTHONPATH=. ../../$(BIN)/lint-imports ../../pyproject.toml --no-cache

fuzz: .venv/.ready  ## 100,000 mutated inputs of everything that is read; stopped, it goes on: FUZZ="--seconds 600" (an hour on two cores)
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m fuzz --jobs $(CORES) $(FUZZ)

torture: .venv/.ready  ## kills every verb that writes 1,000 times in all, and compares; TORTURE="--seconds 600" (20 minutes; with strace, also at system calls)
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m torture $(TORTURE)

benchmark: .venv/.ready  ## speeds beside peers and limits, and what became slower, on an idle machine: 5 minutes on two cores; BENCHMARK="--long"
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(BENCHMARK)

clean:  ## remove the environment and caches
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Plain Debian has no ensurepip, so pip is borrowed from the interpreter that makes the environment.
.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "maekit needs Python 3.11 or later; say which: make PYTHON=/path/to/python3.11"; exit 1; }
	if command -v uv >/dev/null; then \
		test -x $(BIN)/python || uv venv --python $(PYTHON) .venv; \
		uv pip install --python $(BIN)/python -c constraints.txt -e '.[test]'; \
	else \
		test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv; \
		$(PYTHON) -m pip --python $(BIN)/python install -q -c constraints.txt -e '.[test]'; \
	fi
	touch $@
