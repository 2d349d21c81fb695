"""The end of `make demo`: the headline figures of a finished pipeline and where its artefacts lie.

FACTUALITY_HOME=demo python -m evaluation.summary
"""

from evaluation.tables import format_number, format_table
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
_ARTEFACTS = (
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
    models = {name: results[name] for name in ("sft", "base") if name in results} | results["baselines"]
    n_samples = results["sft"]["n"]
    print(
        format_table(
            [f"{n_samples} test samples", *_METRICS],
            [[name, *(format_number(m[key]) for key in _METRICS)] for name, m in models.items()],
        )
    )
    reward = read_json(home_path("checkpoints/rm/validation.json"))
    figures = reward["test"]["reward"]
    print(
        f"\nreward model on {reward['n_test_pairs']} test pairs: accuracy {figures['accuracy']:.3f}, ROC-AUC {figures['roc_auc']:.3f}"
    )
    print("\n" + "\n".join(str(home_path(path)) for path in _ARTEFACTS))


if __name__ == "__main__":
    run_main(main)
