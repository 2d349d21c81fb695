"""The command that runs a stage next, given what the other stages have left under FACTUALITY_HOME."""

import shlex

from reporting.chain import holds, pairs_path
from reporting.outputs import Outputs
from utils.commands import reward_flags, train_flags


def _is_sample(outputs: Outputs) -> bool:
    """True before any data is built, and for the bundled sample: the demo's configs fit then."""
    built = outputs.chosen("data")
    return built is None or bool(built.settings.get("sample"))


def build_data(outputs: Outputs) -> str:
    return "python build_data.py --sample --data-dir data --seed 42"


def save_prompts(outputs: Outputs) -> str:
    return "python prompt_schema.py save --prompts-dir prompts"


def train_sft(outputs: Outputs) -> str:
    built = outputs.chosen("data")
    return shlex.join(["python", "train_sft.py", *train_flags(built.path if built else None)])


def _checkpoint(outputs: Outputs) -> tuple[str, str]:
    """(path of the shown SFT checkpoint, its base model), quoted for a shell."""
    run = outputs.chosen("sft")
    folder = run.settings["output_dir"] if run else "checkpoints/sft/demo"
    path = f"{folder}/checkpoint-best"
    evaluated = outputs.chosen("evaluation")
    of_evaluation = evaluated.settings.get("model_path") if evaluated else None
    if run and holds(outputs.home, run, of_evaluation):
        path = str(of_evaluation)
    base = run.settings["model_name"] if run else "embedded"
    return shlex.quote(path), shlex.quote(str(base))


def _data(outputs: Outputs, split: str) -> str:
    """The path of a split of the shown data, quoted for a shell."""
    built = outputs.chosen("data")
    folder = outputs.shown(built.path) if built else "data/processed"
    return shlex.quote(f"{folder}/{split}.jsonl")


def evaluate(outputs: Outputs) -> str:
    path, base = _checkpoint(outputs)
    return (
        f"python evaluate_sft_fast_robust.py --model-path {path} --base-model {base} --compare-baseline "
        f"--test-data {_data(outputs, 'test')} --output eval_results.json"
    )


def perturb(outputs: Outputs) -> str:
    path, _ = _checkpoint(outputs)
    return f"python robustness.py --model-path {path} --test-data {_data(outputs, 'test')}"


def make_preferences(outputs: Outputs) -> str:
    path, base = _checkpoint(outputs)
    # On its training rows a model makes few mistakes (docs/preferences.md).
    return (
        f"python make_prefs.py --phase all --sft-model {path} --base-model {base} "
        f"--data-path {_data(outputs, 'val')}"
    )


def train_policy(outputs: Outputs) -> str:
    config = "configs/demo/loop.yaml" if _is_sample(outputs) else "configs/dpo.yaml"
    path, _ = _checkpoint(outputs)
    val = _data(outputs, "val")
    return f"python train_dpo.py -c {config} --set sft_model={path} --set data.val_path={val}"


def train_reward(outputs: Outputs) -> str:
    if preferred := outputs.chosen("preferences"):
        base = str(preferred.settings.get("base_model", "embedded"))
        return shlex.join(["python", "train_rm.py", *reward_flags(base, pairs_path(preferred))])
    if trained := outputs.chosen("sft"):
        return shlex.join(["python", "train_rm.py", *reward_flags(str(trained.settings["model_name"]))])
    config = "configs/demo/rm.yaml" if _is_sample(outputs) else "configs/rm.yaml"
    return f"python train_rm.py -c {config}"
