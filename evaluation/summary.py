"""The last step of `make demo`: headline metrics of a finished pipeline, and the paths of its artifacts.

FACTUALITY_HOME=demo python -m evaluation.summary
"""

from evaluation.tables import all_models, format_number, format_table
from utils.config import home_path
from utils.errors import run_main
from utils.jsonl import read_json

_METRICS = (
    "schema_valid_rate",
    "em_answerable",
    "citation_correctness",
    "refusal_f1",
    "hallucination_rate",
    "net_score",
)
# Paths that the stages of the Makefile's `demo` write.
_ARTIFACTS = (
    "data/processed/audit.json",
    "prompts",
    "checkpoints/sft/demo/checkpoint-best",
    "checkpoints/sft/demo/loss_curve.png",
    "eval_results.json",
    "prefs",
    "checkpoints/rm/best",
    "checkpoints/rm/training_history.json",
    "checkpoints/rm/curves.png",
)


def main(argv: list[str] | None) -> None:
    results = read_json(home_path("eval_results.json"))
    rows = []
    for name, metrics in all_models(results).items():
        rows.append([name, *(format_number(metrics[key]) for key in _METRICS)])
    print(format_table([f"{results['sft']['n']} test samples", *_METRICS], rows))

    # On pairs of the test split: the pairs that chose the checkpoint are not among them.
    reward = read_json(home_path("checkpoints/rm/validation.json"))
    figures = reward["test"]["reward"]
    scores = f"accuracy {figures['accuracy']:.3f}, ROC-AUC {figures['roc_auc']:.3f}"
    print(f"\nreward model on {reward['n_test_pairs']} test pairs: {scores}")

    paths = [str(home_path(path)) for path in _ARTIFACTS]
    print("\n" + "\n".join(paths))


if __name__ == "__main__":
    run_main(main)
