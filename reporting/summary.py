"""The last step of `make demo`: figures of the pipeline, the verdict, three samples and the report.

FACTUALITY_HOME=demo python -m reporting.summary
"""

from evaluation.columns import format_number, metric_table
from evaluation.tables import all_models, strongest_baseline
from reporting.answered import three_samples_text
from reporting.evaluations import read_evaluation
from reporting.pipeline import refresh_report
from reporting.verdict import verdict_text
from utils.arguments import stage_parser
from utils.config import home_path
from utils.own_files import VALIDATION
from utils.shapes import read_shaped
from utils.startup import run_main

_METRICS = (
    "schema_valid_rate",
    "em_answerable",
    "citation_correctness",
    "refusal_f1",
    "hallucination_rate",
    "net_score",
)


def main(argv: list[str] | None) -> None:
    # It has no flags but --help.
    stage_parser(__doc__, prog="python -m reporting.summary").parse_args(argv)
    evaluation = read_evaluation(home_path("eval_results.json"), home_path("."))
    results = evaluation.results
    models = all_models(results)
    shown = {name: models[name] for name in ("sft", "base", strongest_baseline(results)) if name in models}
    print(metric_table(f"{results['sft']['n']} test samples", shown, _METRICS))

    # On pairs of the test split: the pairs that chose the checkpoint are not among them.
    reward = read_shaped(home_path("checkpoints/rm/validation.json"), VALIDATION)
    test = reward["test"]
    figures = {name: test[name]["roc_auc"] for name in ("reward", "style_only") if name in test}
    scores = ", ".join(f"{name} {format_number(value)}" for name, value in figures.items())
    print(f"\nreward model on {reward['n_test_pairs']} test pairs, ROC-AUC: {scores}")

    print("\n" + three_samples_text(evaluation.answered))
    print(f"\n{verdict_text(results)}")
    print(f"\nthe whole report: {refresh_report()}")


if __name__ == "__main__":
    run_main(main)
