"""The command that runs a stage next, given what the other stages have left under FACTUALITY_HOME."""

import shlex

from reporting.outputs import Outputs


def _is_sample(outputs: Outputs) -> bool:
    """True before any data is built, and for the bundled sample: the demo's configs fit then."""
    built = outputs.newest("data")
    return built is None or bool(built.settings.get("sample"))


def build_data(outputs: Outputs) -> str:
    return "python build_data.py --sample --data-dir data --seed 42"


def save_prompts(outputs: Outputs) -> str:
    return "python prompt_schema.py save --prompts-dir prompts"


def train_sft(outputs: Outputs) -> str:
    config = "configs/demo/sft.yaml" if _is_sample(outputs) else "configs/sft_gemma2.yaml"
    return f"python train_sft.py -c {config}"


def _checkpoint(outputs: Outputs) -> tuple[str, str]:
    """(path of the newest SFT checkpoint, its base model), quoted for a shell."""
    run = outputs.newest("sft")
    folder = run.settings["output_dir"] if run else "checkpoints/sft/demo"
    base = run.settings["model_name"] if run else "embedded"
    return shlex.quote(f"{folder}/checkpoint-best"), shlex.quote(str(base))


def evaluate(outputs: Outputs) -> str:
    path, base = _checkpoint(outputs)
    return (
        f"python evaluate_sft_fast_robust.py --model-path {path} --base-model {base} --compare-baseline "
        "--test-data data/processed/test.jsonl --output eval_results.json"
    )


def perturb(outputs: Outputs) -> str:
    path, _ = _checkpoint(outputs)
    return f"python robustness.py --model-path {path} --test-data data/processed/test.jsonl"


def make_preferences(outputs: Outputs) -> str:
    path, base = _checkpoint(outputs)
    return (
        f"python make_prefs.py --phase all --sft-model {path} --base-model {base} "
        "--data-path data/processed/train.jsonl"
    )


def train_reward(outputs: Outputs) -> str:
    config = "configs/demo/rm.yaml" if _is_sample(outputs) else "configs/rm.yaml"
    return f"python train_rm.py -c {config}"
