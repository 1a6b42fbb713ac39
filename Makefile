# The two commands of the README are `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt
# Files are shared out between processes of one thread each: the cores are never used twice.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(shell nproc) --dist loadfile
DEMO := demo
SOURCES := setup.py CMakeLists.txt pyproject.toml .ci/constraints.txt $(shell find csrc -type f)
CPP := $(shell find csrc tests benchmarks -name '*.cpp' -o -name '*.h' -o -name '*.hpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: help demo test test-fast check lint format mutants test-gpu test-device wheels-device rehearse interruptions bench bench-quick types connections wheel clean
help:           ## list what can be made
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(VENV)/torch.stamp: .ci/constraints.txt
	@echo "usvs: setting up $(VENV) (torch comes first; a few minutes on a new machine)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip
	@$(PIP) torch numpy setuptools pybind11 ninja cmake
	@touch $@

$(VENV)/usvs.stamp: $(VENV)/torch.stamp $(SOURCES)
	@echo "usvs: building the kernels"
	@$(PIP) --no-build-isolation -e ".[train,phantom]"
	@touch $@

# PyPI's torchaudio is linked to CUDA. Without its shared libraries it still computes spectrograms, which a test compares with.
$(VENV)/dev.stamp: $(VENV)/usvs.stamp
	@echo "usvs: adding what the tests need"
	@$(PIP) --no-build-isolation -e ".[train,phantom,dicom,dali,dask,onnx,timm,dev]"
	@$(PIP) --no-deps torchaudio
	@rm -f $(VENV)/lib/python*/site-packages/torchaudio/lib/*.so
	@touch $@

demo: $(VENV)/usvs.stamp ## make a phantom archive, pretrain, fine-tune, compare with training from scratch
	@rm -rf $(DEMO)
	$(BIN)/usvs phantom $(DEMO)/archive --patients 30 --seed 1
	$(BIN)/usvs index $(DEMO)/archive $(DEMO)/store
	$(BIN)/usvs prepare $(DEMO)/store --profile quick
	$(BIN)/usvs pretrain $(DEMO)/store $(DEMO)/pretrained --profile quick
	$(BIN)/usvs finetune planes $(DEMO)/store $(DEMO)/planes --profile quick \
	  --init random --init $(DEMO)/pretrained --patients held-out --labelled-patients 3

test: $(VENV)/dev.stamp ## the whole suite, a process for each core
	$(PYTEST)

test-fast: $(VENV)/dev.stamp ## two minutes on two cores: what to run while working
	$(PYTEST) -m "not slow and not compile and not distributed and not interruption"

check: lint test ## everything that CI runs

lint: $(VENV)/dev.stamp ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/dev.stamp ## format Python, C++ and CUDA sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

mutants: $(VENV)/dev.stamp ## mutation tests of the CUDA kernels: every mutant, and which test detects it
	$(BIN)/python -m tests.simt.mutants

test-gpu: $(VENV)/dev.stamp ## the tests that need a CUDA device
	USVS_REQUIRE_GPU=1 $(BIN)/python -m pytest -m gpu

test-device: $(VENV)/dev.stamp ## tests, sanitizers and benchmarks on a CUDA device: at most 8 minutes; results in build/device
	PYTHON=$(BIN)/python tests/device/check.sh

wheels-device: ## what must travel to a device machine without a network: wheels and their size
	PYTHON=$(BIN)/python tests/device/wheels.sh

rehearse: $(VENV)/dev.stamp ## the same script on the CPU and in the emulator
	PYTHON=$(BIN)/python tests/device/check.sh --rehearse

interruptions: $(VENV)/dev.stamp ## 200 random SIGTERMs and SIGKILLs of a pretraining; the final weights are compared
	PYTHONPATH=. $(BIN)/python -m tests.training.interruptions --count 200

bench: $(VENV)/dev.stamp ## both kernels against other implementations; quiet machine, one hour; writes benchmarks/kernels.json
	@$(PIP) -e ".[bench]" --no-build-isolation
	@$(PIP) --no-deps open_clip_torch
	$(BIN)/python -m pytest benchmarks/bench_log_spectrogram.py benchmarks/bench_contrastive_loss.py \
	  --benchmark-json benchmarks/kernels.json
	$(BIN)/python -m benchmarks.table benchmarks/kernels.json

# Few rounds of what a reviewer would look at first, of kernels one thread and the sizes of the README; a peer that is not
# installed is skipped. To run on a quiet machine.
QUICK_KERNELS := not all-threads and not 1024-128 and not 8192-256
bench-quick: $(VENV)/dev.stamp ## training against a straightforward implementation, both kernels, loading: at most 10 minutes; writes build/bench
	@mkdir -p build/bench
	$(BIN)/python -m benchmarks.bench_training --models quick --threads $(shell nproc) --seconds 10 --rounds 1 --out build/bench/training.json
	$(BIN)/python -m pytest -q benchmarks/bench_contrastive_loss.py benchmarks/bench_log_spectrogram.py --rounds 2 \
	  -k "$(QUICK_KERNELS)" --benchmark-json build/bench/kernels.json
	USVS_BENCH_SECONDS=20 $(BIN)/python -m pytest -q benchmarks/bench_loading.py -k "not workers" \
	  --benchmark-json build/bench/loading.json
	$(BIN)/python -m benchmarks.table build/bench/kernels.json build/bench/loading.json

types: $(VENV)/dev.stamp ## is the public interface completely typed? (pyright; minutes)
	@$(PIP) pyright
	PYTHONPATH=. PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m tests.typed_interface --out docs/results/types.json

CONNECTIONS := tests/test_cli.py tests/cli tests/inference tests/store
connections: $(VENV)/dev.stamp ## fast tests under strace: any connection outside of loopback fails; CONNECTIONS="tests" for all
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python -m tests.connections --out docs/results/connections.json \
	  $(CONNECTIONS) -m "not slow and not compile and not distributed and not interruption"

wheel: $(VENV)/dev.stamp ## build the sdist and the wheel, and try the wheel in an empty environment; WHEEL="--torch 2.11.0"
	@$(PIP) build
	PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH=. $(BIN)/python -m tests.wheel --out docs/results/wheel.json $(WHEEL)

clean: ## remove what was built
	rm -rf build dist *.egg-info usvs/*.so $(DEMO)
