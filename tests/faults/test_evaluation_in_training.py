"""An evaluation in the middle of a training leaves later losses and gradient norms as they are."""

import pytest

import train_sft
from tests.test_train_sft import write_config_and_data
from utils.jsonl import read_json

# As --set writes them, and whether bfloat16 is taken for fast.
PRECISIONS = {
    "float32": (["bf16=false"], False),
    "bfloat16": (["bf16=true"], True),
    "8 bits": (["load_in_8bit=true"], True),
    "4 bits": (["load_in_4bit=true"], True),
    "4 bits, layers recomputed": (
        ["load_in_4bit=true", "training.gradient_checkpointing.every_n_layers=2"],
        True,
    ),
}
N_STEPS = 4


def train_losses(config, home, name: str, flags: list[str], eval_steps: int) -> list[dict]:
    """Loss and gradient norm of each step of a run that evaluates every so many steps."""
    flags = [
        *flags,
        f"output_dir={name}",
        f"training.eval_steps={eval_steps}",
        f"training.max_steps={N_STEPS}",
    ]
    # Dropout is random: an evaluation that drew numbers would change what follows.
    flags += ["training.logging_steps=1", "training.save_steps=100", "lora.dropout=0.2"]
    argv = ["-c", str(config)]
    for flag in flags:
        argv += ["--set", flag]
    train_sft.main(argv)
    history = read_json(home / name / "training_history.json")
    assert len(history["eval_metrics"]) >= (N_STEPS if eval_steps == 1 else 1)
    return [{key: row[key] for key in ("step", "loss", "grad_norm")} for row in history["train_losses"]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_steps_are_the_same_with_evaluations_between_them(
    precision, tiny_gemma_dir, data_home, tmp_path, monkeypatch
):
    flags, is_half = PRECISIONS[precision]
    if "bits" in precision:
        pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("models.hardware.has_fast_bf16", lambda: is_half)
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    config = write_config_and_data(tmp_path, data_home, tiny_gemma_dir)
    without = train_losses(config, tmp_path, "without", flags, 100)
    between = train_losses(config, tmp_path, "between", flags, 1)
    assert len(without) == N_STEPS and all(row["grad_norm"] > 0 for row in without)
    assert between == without
