# The two commands of the README are `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt
DEMO := demo
SOURCES := setup.py CMakeLists.txt pyproject.toml .ci/constraints.txt $(shell find csrc -type f)
CPP := $(shell find csrc tests benchmarks -name '*.cpp' -o -name '*.h' -o -name '*.hpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: help demo test check lint format plants test-gpu stops bench clean
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
	@$(PIP) --no-build-isolation -e ".[phantom]"
	@touch $@

# PyPI's torchaudio is linked to CUDA; without its own libraries it still computes spectrograms, the oracle of a test.
$(VENV)/dev.stamp: $(VENV)/usvs.stamp
	@echo "usvs: adding what the tests need"
	@$(PIP) --no-build-isolation -e ".[phantom,dicom,dali,dask,dev]"
	@$(PIP) --no-deps torchaudio
	@rm -f $(VENV)/lib/python*/site-packages/torchaudio/lib/*.so
	@touch $@

demo: $(VENV)/usvs.stamp ## make a phantom archive, pretrain, fine-tune, and show what was learnt
	@rm -rf $(DEMO)
	$(BIN)/usvs phantom $(DEMO)/archive --patients 30 --seed 1
	$(BIN)/usvs index $(DEMO)/archive $(DEMO)/store
	$(BIN)/usvs prepare $(DEMO)/store --profile quick
	$(BIN)/usvs pretrain $(DEMO)/store $(DEMO)/pretrained --profile quick
	$(BIN)/usvs finetune planes $(DEMO)/store $(DEMO)/planes --profile quick \
	  --init random --init $(DEMO)/pretrained --patients held-out --labelled-patients 3

test: $(VENV)/dev.stamp ## the whole suite
	$(BIN)/python -m pytest

check: lint test ## what main always passes

lint: $(VENV)/dev.stamp ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/clang-format --dry-run --Werror $(CPP)

format: $(VENV)/dev.stamp ## rewrite everything in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

plants: $(VENV)/dev.stamp ## break the CUDA kernels in every place, one at a time: which test sees it?
	$(BIN)/python -m tests.simt.mutants

test-gpu: $(VENV)/dev.stamp ## the tests that need a CUDA device
	USVS_REQUIRE_GPU=1 $(BIN)/python -m pytest -m gpu

stops: $(VENV)/dev.stamp ## 200 random SIGTERMs and SIGKILLs of a pretraining, and the weights compared
	PYTHONPATH=. $(BIN)/python -m tests.training.interruptions --count 200

bench: $(VENV)/dev.stamp ## both kernels against their peers; quiet machine, an hour: benchmarks/kernels.json and its table
	@$(PIP) -e ".[bench]" --no-build-isolation
	@$(PIP) --no-deps open_clip_torch
	$(BIN)/python -m pytest benchmarks/bench_log_spectrogram.py benchmarks/bench_contrastive_loss.py \
	  --benchmark-json benchmarks/kernels.json
	$(BIN)/python -m benchmarks.table benchmarks/kernels.json

clean: ## remove what was built
	rm -rf build dist *.egg-info usvs/*.so $(DEMO)
