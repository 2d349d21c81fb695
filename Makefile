# make demo: the whole pipeline on CPU with the embedded model and the bundled sample, under demo/.
# make test: the tests. Both set up .venv on first use. Every stage line below can be copied into a shell after `export FACTUALITY_HOME=demo`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CHECKPOINT := checkpoints/sft/demo/checkpoint-best
DEMO := FACTUALITY_HOME=demo HF_HUB_OFFLINE=1 $(BIN)/python

.PHONY: demo test install install-dev lint clean

demo: install
	$(DEMO) build_data.py --sample --data-dir data --seed 42 --max-chunks 3 --max-chunk-words 20 --split 0.7,0.1,0.2
	$(DEMO) prompt_schema.py save --prompts-dir prompts
	$(DEMO) train_sft.py -c configs/demo/sft.yaml
	$(DEMO) evaluate_sft_fast_robust.py --model-path $(CHECKPOINT) --base-model embedded --test-data data/processed/test.jsonl --compare-baseline --limit 210 --batch-size 16 --max-new-tokens 48 --output eval_results.json
	$(DEMO) make_prefs.py --phase generate --sft-model $(CHECKPOINT) --base-model embedded --data-path data/processed/val.jsonl --max-samples 48 --n-generations 2 --temperature 0.8 --batch-size 16 --max-new-tokens 48
	$(DEMO) make_prefs.py --phase judge --judge verifier --data-path data/processed/val.jsonl --min-margin 0.12 --output-mode rich
	$(DEMO) train_rm.py -c configs/demo/rm.yaml
	$(DEMO) train_rm.py -c configs/demo/rm.yaml --validate-only --checkpoint best
	$(DEMO) -m evaluation.summary

test: install-dev
	$(BIN)/python -m pytest

lint: install-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/.installed: requirements.txt constraints.txt requirements-embedded.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-embedded.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf demo
