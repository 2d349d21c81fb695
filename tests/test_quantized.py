"""Evaluation, robustness and ask in 4 and 8 bits, and the calibration that belongs to a precision."""

import shutil

import pytest
import torch

import evaluate_sft_fast_robust as evaluation
import robustness
from asking.answering import Asker
from asking.checkpoint import AskSettings
from evidence.chunk_sizes import ChunkSizes
from models.choices import LoadOptions
from models.hardware import choose_dtype
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from utils.calibration import precision_warning
from utils.errors import UsageError
from utils.jsonl import read_json, write_json

FIT = {"x": [0.0, 1.0], "y": [0.1, 0.9], "n": 20}


def test_a_calibration_of_another_precision_is_pointed_out_with_the_flag():
    four = {"isotonic": FIT, "precision": "4-bit, torch.bfloat16"}
    assert precision_warning(four, "4-bit, torch.bfloat16") is None
    assert "add --use-4bit" in str(precision_warning(four, "torch.bfloat16"))
    eight = str(precision_warning(four, "8-bit, torch.bfloat16"))
    assert "4-bit, bfloat16, these are in 8-bit, bfloat16" in eight
    assert "leave out --use-8bit and add --use-4bit" in eight
    whole = {"isotonic": FIT, "precision": "torch.bfloat16"}
    assert "leave out --use-4bit" in str(precision_warning(whole, "4-bit, torch.bfloat16"))
    # No flag changes the type that the machine computes in.
    assert "--use" not in str(precision_warning(whole, "torch.float32"))
    assert "--use" not in str(precision_warning(four, "4-bit, torch.float16"))
    # Without a fit nothing is calibrated, and an older fit does not name its precision.
    assert precision_warning({"isotonic": None, "precision": "torch.float32"}, "torch.bfloat16") is None
    assert precision_warning({"isotonic": FIT}, "torch.bfloat16") is None


@pytest.fixture
def checkpoint(home, tiny_gemma_dir):
    """A checkpoint whose calibration was fitted in 4 bits."""
    pytest.importorskip("bitsandbytes")
    shutil.copytree(tiny_gemma_dir, home / "sft/checkpoint-best")
    calibration = {"isotonic": FIT, "precision": f"4-bit, {choose_dtype()}", "answers": []}
    write_json(home / "sft/calibration.json", calibration)
    return "sft/checkpoint-best"


def kinds_of_layers(monkeypatch) -> list[set[str]]:
    """The kinds of linear layers of each model that is loaded from now on."""
    from models import loading

    kinds = []
    load = loading.AutoModelForCausalLM.from_pretrained

    def watched(*args, **kwargs):
        model, found = load(*args, **kwargs)
        kinds.append({type(m).__name__ for m in model.modules() if isinstance(m, torch.nn.Linear)})
        return model, found

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", watched)
    return kinds


def test_an_evaluation_in_fewer_bits_is_another_result_and_names_the_fit(
    checkpoint, home, monkeypatch, capsys
):
    kinds = kinds_of_layers(monkeypatch)
    base = "--base-model sft/checkpoint-best --compare-baseline --max-new-tokens 4 --limit 2"
    flags = f"--model-path {checkpoint} {base} --test-data data/processed/test.jsonl --output out.json"
    evaluation.main([*flags.split(), "--use-4bit"])
    assert "Linear4bit" in kinds[0]
    run = read_json(home / "out.json")["run"]
    assert run["settings"]["precision"].startswith("4-bit")
    assert run["warnings"] == []
    # Another precision gives other answers: nothing is reused, and nothing is overwritten.
    with pytest.raises(UsageError, match="precision"):
        evaluation.main([*flags.split(), "--use-8bit"])
    capsys.readouterr()
    evaluation.main([*flags.split(), "--use-8bit", "--overwrite"])
    assert "Linear8bitLt" in kinds[-1]
    assert "leave out --use-8bit and add --use-4bit" in capsys.readouterr().err
    assert len(read_json(home / "out.json")["run"]["warnings"]) == 1


def test_robustness_runs_in_fewer_bits(checkpoint, home, monkeypatch):
    kinds = kinds_of_layers(monkeypatch)
    flags = f"--model-path {checkpoint} --test-data data/processed/test.jsonl --limit 2 --suite order"
    robustness.main([*flags.split(), "--use-4bit", "--max-new-tokens", "4"])
    assert kinds and all("Linear4bit" in found for found in kinds)
    assert read_json(home / "robustness.json")["run"]["settings"]["precision"].startswith("4-bit")


def test_ask_says_that_the_confidence_was_fitted_in_another_precision(checkpoint, home, capsys):
    calibration = read_json(home / "sft/calibration.json")
    settings = AskSettings(ChunkSizes(3, 20), SFT_TEMPLATES["default"], 1500, calibration)
    Asker(str(home / checkpoint), settings, PromptBuilder)
    assert "add --use-4bit" in capsys.readouterr().err
    Asker(str(home / checkpoint), settings, PromptBuilder, LoadOptions(load_in_4bit=True))
    assert "calibration" not in capsys.readouterr().err
