"""Every command that the README, the Makefile and the user's notebook show is accepted by the scripts, flag for flag."""

import json
import re
import shlex
from pathlib import Path

import pytest

import build_data
import evaluate_sft_fast_robust
import make_prefs
import prompt_schema
import robustness
import train_rm
import train_sft

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {
    module.__name__: module
    for module in (
        build_data,
        prompt_schema,
        train_sft,
        evaluate_sft_fast_robust,
        make_prefs,
        train_rm,
        robustness,
    )
}
# The commands of the user's own notebook, as they stand there.
NOTEBOOK_COMMANDS = [
    "python build_data.py --data-dir data --seed 42 --accept-new-hash",
    "python prompt_schema.py save --prompts-dir prompts",
    "python prompt_schema.py test",
    "python train_sft.py -c configs/sft_gemma2.yaml",
    "python evaluate_sft_fast_robust.py --model-path checkpoints/sft/gemma2-9b/checkpoint-35 --base-model google/gemma-2-9b "
    "--test-data data/processed/test.jsonl --compare-baseline --batch-size 4 --max-new-tokens 256 --fast "
    "--buckets 2048,3072,4096,5120,6144,7168,7936 --attn-impl flash2 --output eval_results.json",
    "python make_prefs.py --phase generate --sft-model checkpoints/sft/gemma2-9b/checkpoint-29 --base-model google/gemma-2-9b "
    "--data-path data/processed/train.jsonl --max-samples 600 --n-generations 2 --batch-size 12 --max-new-tokens 80 "
    "--max-input-tokens 1536 --temperature 0.0 --use-8bit",
    "python make_prefs.py --phase judge --judge-model Qwen/Qwen2.5-3B-Instruct --data-path data/processed/train.jsonl --max-samples 600 "
    "--n-generations 2 --judge-batch-size 12 --min-margin 0.12 --judge-use-8bit --output-mode rich",
    "python train_rm.py -c configs/rm.yaml",
    "python train_rm.py -c configs/rm.yaml --validate-only --checkpoint best",
]
NOTEBOOK_CONFIGS = {
    "sft_gemma2.yaml": {
        "model_name": "google/gemma-2-9b",
        "output_dir": "checkpoints/sft/gemma2-9b",
        "load_in_4bit": True,
        "bf16": True,
        "trust_remote_code": False,
        "attn_implementation": "eager",
        "lora": {
            "r": 16,
            "alpha": 32,
            "dropout": 0.05,
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        },
        "training": {
            "per_device_train_batch_size": 1,
            "per_device_eval_batch_size": 2,
            "gradient_accumulation_steps": 64,
            "learning_rate": 1.5e-5,
            "num_train_epochs": 2,
            "max_seq_length": 2048,
            "warmup_ratio": 0.03,
            "weight_decay": 0.1,
            "lr_scheduler_type": "cosine",
            "logging_steps": 10,
            "eval_steps": 100,
            "save_steps": 100,
            "save_total_limit": 2,
            "seed": 42,
        },
        "data": {
            "train_path": "data/processed/train.jsonl",
            "val_path": "data/processed/val.jsonl",
            "template": "default",
            "max_samples": None,
            "max_val_samples": 500,
        },
    },
    "rm.yaml": {
        "base_model": "google/gemma-2-9b",
        "output_dir": "checkpoints/rm",
        "learning_rate": "5e-6",
        "batch_size": 16,
        "eval_batch_size": 32,
        "num_epochs": 3,
        "warmup_ratio": 0.1,
        "weight_decay": 0.01,
        "max_seq_length": 2048,
        "gradient_accumulation_steps": 1,
        "eval_steps": 100,
        "save_steps": 200,
        "logging_steps": 10,
        "load_in_8bit": False,
        "seed": 42,
        "citation_penalty_weight": 0.2,
        "confidence_penalty_weight": 0.1,
        "length_penalty_weight": 0.05,
        "overcitation_penalty_weight": 0.15,
        "span_penalty_weight": 0.25,
    },
}


def commands_in(text: str) -> list[str]:
    """`python <script>.py ...` command lines of a text, continuation lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [
        match.group().strip()
        for match in re.finditer(r"python (?:%s)\.py[^\n`#|]*" % "|".join(SCRIPTS), joined)
    ]


def parse(command: str):
    words = shlex.split(command)
    return SCRIPTS[words[1].removesuffix(".py")].build_parser().parse_args(words[2:])


def documented() -> list[str]:
    notebook = json.loads((ROOT / "notebooks/factuality_slice.ipynb").read_text())
    cells = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    cells = re.sub(r"\{(TRAIN|TEST|PREF)_ROWS\}", "10", cells).replace("{BASE}", "embedded")
    makefile = (
        (ROOT / "Makefile").read_text().replace("$(DEMO) ", "python ").replace("$(CHECKPOINT)", "checkpoint")
    )
    docstrings = "\n".join(module.__doc__ for module in SCRIPTS.values())
    return sum(
        (commands_in(text) for text in ((ROOT / "README.md").read_text(), makefile, cells, docstrings)), []
    )


@pytest.mark.parametrize("command", sorted(set(documented())))
def test_every_documented_command_is_accepted(command):
    parse(command)


def test_the_documents_show_every_script():
    shown = {shlex.split(command)[1] for command in commands_in((ROOT / "README.md").read_text())}
    assert shown == {f"{name}.py" for name in SCRIPTS}


@pytest.mark.parametrize("command", NOTEBOOK_COMMANDS)
def test_the_users_notebook_commands_run_dry(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    words = shlex.split(command)
    if words[2:] != ["test"]:
        words.append("--dry-run")
    SCRIPTS[words[1].removesuffix(".py")].main(words[2:])
    assert capsys.readouterr().out
    assert not list(tmp_path.iterdir()), "a dry run wrote something"


@pytest.mark.parametrize("name, keys", NOTEBOOK_CONFIGS.items())
def test_the_shipped_configs_hold_the_notebooks_values(name, keys):
    import yaml

    assert yaml.safe_load((ROOT / "configs" / name).read_text()) == keys


def test_the_notebook_is_stripped_and_starts_in_demo_mode():
    notebook = json.loads((ROOT / "notebooks/factuality_slice.ipynb").read_text())
    assert all(
        not cell.get("outputs") and cell.get("execution_count") is None
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    )
    assert "DEMO = True" in "".join(notebook["cells"][1]["source"])


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_help_names_the_effect_of_every_flag_and_two_examples(name):
    parser = SCRIPTS[name].build_parser()
    assert len(commands_in(SCRIPTS[name].__doc__)) >= 2
    assert all(action.help for action in parser._actions if action.option_strings)
