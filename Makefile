# Every target makes what it needs in .venv; nothing has to be activated. `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Left over from another environment, these would mix its packages into ours.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The certificates that the operating system trusts, as pip does: company proxies work without more settings.
export UV_SYSTEM_CERTS := 1
# pip's name for extra wheel folders and for the index, where they are set, means the same to uv.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

BIN := .venv/bin
STAMP := .venv/.made
LOCK := requirements/cpu.lock
UV = $(BIN)/uv
COMPILE := pip compile pyproject.toml --universal --python-version 3.11 --extra train --extra local --extra load --group dev \
  --generate-hashes --no-annotate --no-header --quiet
say = @printf '\033[1m→ %s\033[0m\n' "$(1)"

.PHONY: help demo test test-faults test-engines test-image image check venv format lint types unit docs goldens bench fuzz lock clean test-cluster

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: venv ## Chat events through a real Kafka, Redis and guard, with a live table (ARGS="--keep-running"; ARGS="--story raid")
	@$(BIN)/rsafe demo $(ARGS)

# What needs no service runs on all cores; the rest shares one engine, one broker and one Redis, and runs alone, also
# after tests that failed (exit code 1) among the first: one run tells all of them.
ALONE := tests/unit tests/architecture
test: lint types ## Everything that CI runs: format, lint, types, import fences, all tests (ARGS="-k name")
ifdef ARGS
	$(call say,tests)
	@$(BIN)/python -m pytest $(ARGS)
else
	$(call say,tests without services)
	@code=0; OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ALONE) || code=$$?; \
	[ $$code -le 1 ] || exit $$code; \
	printf '\033[1m→ tests with services\033[0m\n'; \
	$(BIN)/python -m pytest $(addprefix --ignore=,$(ALONE) tests/cluster) || code=$$?; exit $$code
endif

# Exit code 3 of the build: no Go here; then the tests say that they are skipped, or fail in CI.
test-cluster: venv ## The chart on a real Kubernetes control plane, with Helm 3 and 4; the first run builds it from source
	$(call say,control plane and Helm)
	@code=0; folder=$$(bash tests/cluster/build.sh) || code=$$?; \
	if [ $$code -eq 3 ] && [ "$${CI:-}" != true ]; then exit; fi; [ $$code -eq 0 ] || exit $$code; \
	for helm in helm3 helm4; do \
	  printf '\033[1m→ tests of the chart with %s\033[0m\n' $$helm; \
	  PATH="$$folder/$$helm:$$PATH" $(BIN)/python -m pytest --numprocesses auto --dist loadfile tests/unit/helm; \
	done
	$(call say,tests on the control plane)
	@$(BIN)/python -m pytest tests/cluster $(ARGS)

test-faults: venv ## The whole fault matrix, for hours; goes on where it was interrupted (ARGS="--row worker-killed")
	@$(BIN)/python -m tests.acceptance.faults $(ARGS)

test-engines: venv ## Every profile on vLLM, with random weights of its architecture; ten minutes or so
	@RSAFE_TEST_ENGINES=1 $(BIN)/python -m pytest tests/engines $(ARGS)

check: test

unit: venv ## The quick tests only
	@$(BIN)/python -m pytest tests/unit tests/contract tests/architecture $(ARGS)

lint: venv ## Format, lint rules and import fences, changing nothing
	$(call say,format and lint)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	$(call say,import fences)
	@$(BIN)/lint-imports

types: venv ## Type checks
	$(call say,types)
	@$(BIN)/mypy

format: venv ## Format the code and mend what the linter can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: venv ## Make the schemas, the reference pages, the chart's settings, README and dashboards anew from the code
	@$(BIN)/python -m schemas.generate
	@$(BIN)/python -m workers.docs
	@$(BIN)/python docs/generate.py
	@$(BIN)/python helm/settings_schema.py
	@$(BIN)/python helm/values_readme.py
	@$(BIN)/python helm/dashboards.py

goldens: venv ## Make the golden renders of the chart anew; needs helm
	@$(BIN)/python -m tests.unit.helm.goldens

fuzz: venv ## A million inputs into each decoder; ARGS="--seed 7", or "--first N" to go on with a run
	$(call say,fuzz)
	@$(BIN)/python -m tests.fuzz --page docs/operations/faults.md $(ARGS)

# Any builder that reads a Dockerfile: docker, podman, "buildah bud --isolation chroot".
BUILDER ?= docker build
VARIANT ?= cpu
IMAGE ?= rsafe-stream
image: ## The container image (VARIANT=gpu IMAGE=name ARGS="--build-arg BASE=…@sha256:…" BUILDER="podman build")
	@$(BUILDER) --build-arg EXTRA=$(VARIANT) --build-arg LOCK=requirements/$(VARIANT).lock \
	  --tag $(IMAGE):$(if $(filter gpu,$(VARIANT)),gpu,latest) $(ARGS) .

test-image: venv ## The image, built and run for real with buildah (root, Debian; VARIANT=gpu); ten minutes or so
	@RSAFE_TEST_IMAGE=1 RSAFE_TEST_IMAGE_VARIANT=$(VARIANT) $(BIN)/python -m pytest tests/image $(ARGS)

bench: venv ## Benchmarks; tables go to benchmarks/results/
	@$(BIN)/python -m benchmarks.guard_bound $(ARGS)
	@$(BIN)/python -m benchmarks.cache_bound $(ARGS)

venv: $(STAMP) ## The environment in .venv, from the lock file

$(STAMP): $(LOCK) requirements/uv.txt pyproject.toml requirements/find_python.sh
	$(call say,environment in .venv; a cold one takes a minute or two)
	@if ! $(BIN)/python -c 'import pip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then \
	  python=$$(PYTHON="$(PYTHON)" bash requirements/find_python.sh) || exit 1; \
	  "$$python" -m venv --clear .venv; \
	fi
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	@$(UV) pip sync --python $(BIN)/python --require-hashes $(LOCK)
	@$(UV) pip install --python $(BIN)/python --no-deps --quiet -e .
	@touch $@

lock: venv ## Resolve the dependencies anew into requirements/*.lock
	$(call say,requirements/cpu.lock)
	@$(UV) $(COMPILE) --extra cpu -o requirements/cpu.lock
	$(call say,requirements/gpu.lock)
	@$(UV) $(COMPILE) --extra gpu -o requirements/gpu.lock

clean: ## Remove the environment, caches and the data of the local stack
	@if [ -x $(BIN)/rsafe ]; then $(BIN)/rsafe local down; fi
	@rm -rf .venv .rsafe build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
