"""Facts and warnings of each stage, read from what it wrote.

A warning is something that makes a figure mean less than it seems to: a shortcut in the data, an evaluation
of an older checkpoint, pairs that style alone tells apart. Facts are what one looks for first.
"""

from typing import NamedTuple

from evaluation.columns import format_number
from evaluation.results import WITHOUT_MODEL
from evaluation.tables import all_models
from evidence.shortcuts import shortcut_warnings
from reporting.asked import asking_facts
from reporting.outputs import Outputs, Run
from reporting.staleness import changed_data, older_than_checkpoint, other_preferences
from utils.own_files import AUDIT, VALIDATION
from utils.runs import format_seconds
from utils.shapes import lenient, read_shaped
from utils.templates import edited_files

# From this ROC-AUC on, features without any meaning of the text nearly decide a pair.
STYLE_LIMIT = 0.8
# A judge whose winner changes with the order this often guesses.
_MIN_CONSISTENCY = 0.8
# Pairs of one model against the other teach which model wrote a text.
_MAX_ONE_SIDED = 0.8
_FEW_PAIRS = 100
_MAX_UNPARSABLE = 0.05
_NEARLY_ALL = 0.95
_SHORTCUTS = "titles, word overlap or other surface features give the answer away in part of the data:"


class Facts(NamedTuple):
    """(label, value) pairs, warnings, and why the output is older than what it is about."""

    facts: list[tuple[str, str]]
    warnings: list[str]
    stale: list[str]


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in numbers.items())


# --- data and prompts


def data(outputs: Outputs, run: Run) -> Facts:
    audit = read_shaped(run.path / "audit.json", lenient(AUDIT))
    per_source: dict[str, int] = {}
    for sources in audit["counts"].values():
        for source, kinds in sources.items():
            per_source[source] = per_source.get(source, 0) + sum(kinds.values())
    dropped = sum(sum(reasons.values()) for reasons in audit["dropped"].values())
    facts = [
        ("samples", _counts(audit["n_samples"])),
        ("sources", _counts(per_source)),
        ("dropped", f"{dropped:,}"),
    ]
    warnings = list(audit["rules_broken"][:3]) + list(audit.get("promises_missed") or [])
    if shortcuts := shortcut_warnings(audit.get("shortcuts") or {"by_source": {}}):
        warnings += [_SHORTCUTS, *shortcuts]
    return Facts(facts, warnings, [])


def prompts(outputs: Outputs, run: Run) -> Facts:
    edited = edited_files(run.path)
    facts = [("files", str(len(run.settings["files"]))), ("edited", ", ".join(edited) or "none")]
    return Facts(facts, [], [])


# --- SFT and its evaluation


def sft(outputs: Outputs, run: Run) -> Facts:
    settings = run.settings
    manifest = run.manifest
    facts = [("base model", str(settings["model_name"]))]
    if "n_steps" in manifest:
        seconds = format_seconds(manifest["train_seconds"])
        facts.append(("training", f"{manifest['n_rows']:,} rows, {manifest['n_steps']:,} steps, {seconds}"))
        if manifest.get("tokens_per_second"):
            facts.append(("speed", f"{manifest['tokens_per_second']:,.0f} tokens/s"))
        if manifest.get("peak_memory_gb"):
            facts.append(("peak memory", f"{manifest['peak_memory_gb']:.1f} GB"))
        metric = str(manifest["metric_for_best"]).removeprefix("eval_")
        facts.append((f"best {metric}", format_number(manifest["best"])))
    return Facts(facts, _training_warnings(manifest), changed_data(outputs, run))


def _training_warnings(manifest: dict) -> list[str]:
    """Says that the trained model answers everything or nothing on val."""
    val = manifest.get("val") or {}
    warnings = []
    if (val.get("eval_over_refusal_rate") or 0.0) >= _NEARLY_ALL:
        warnings.append("refuses nearly every answerable question of val")
    if (val.get("eval_under_refusal_rate") or 0.0) >= _NEARLY_ALL:
        warnings.append("refuses nearly no unanswerable question of val")
    valid = val.get("eval_schema_valid_rate")
    if valid is not None and valid < 1.0 - _MAX_UNPARSABLE:
        warnings.append(f"only {valid:.0%} of its val answers keep the format")
    return warnings


def evaluation(outputs: Outputs, run: Run) -> Facts:
    results = run.content
    models = all_models(results)
    main = next(iter(models))
    metrics = models[main]
    settings = run.settings
    facts = [
        ("samples", f"{metrics['n']:,} of {settings['test_data']}"),
        (f"{main}, net score", format_number(metrics["net_score"])),
        ("models", ", ".join(name for name in models if name not in WITHOUT_MODEL)),
        *asking_facts(settings),
    ]
    warnings = [str(text) for text in run.manifest.get("warnings") or []]
    if not (metrics.get("ci95") or {}).get("net_score"):
        warnings.append("no intervals: under 20 groups of samples, so no difference can be decided")
    if n_cut := run.manifest.get("gold_cut"):
        warnings.append(f"gold cut: {n_cut:,} prompts lost their support to the token limit")
    constant = [
        name for name in models if models[name].get("confidence_is_constant") and name in results["curves"]
    ]
    if constant:
        warnings.append(f"constant confidence: {', '.join(constant)}")
    if metrics["unparsable_rate"] > _MAX_UNPARSABLE:
        warnings.append(f"{metrics['unparsable_rate']:.0%} of the answers of {main} cannot be parsed")
    return Facts(facts, warnings, older_than_checkpoint(outputs, run, settings.get("model_path")))


def robustness(outputs: Outputs, run: Run) -> Facts:
    suites = run.content["suites"]
    n = max(suite["n"] for suite in suites.values())
    facts = [("suites", ", ".join(suites)), ("samples", f"{n:,} per level"), *asking_facts(run.settings)]
    warnings = []
    for name, suite in suites.items():
        for level, found in suite["levels"].items():
            interval = (found.get("deltas") or {}).get("ci95", {}).get("net_score")
            # Support that is dropped changes the gold too, so its levels are about other questions.
            if interval and interval[1] < 0 and name != "support_drop":
                change = found["deltas"]["net_score"]
                warnings.append(f"{name}, {level}: net score {change:+.3f}")
    model_path = run.settings.get("model_path")
    return Facts(facts, warnings, older_than_checkpoint(outputs, run, model_path))


# --- preferences, the reward model and the policy


def preferences(outputs: Outputs, run: Run) -> Facts:
    stats = run.content
    n_pairs = stats["n_pairs"]
    facts = [
        ("pairs", f"{n_pairs:,} of {stats['n_samples']:,} samples"),
        ("judge", str(stats["settings"]["judge"])),
        ("mean margin", format_number(stats["mean_margin"])),
        *asking_facts(run.settings),
    ]
    warnings = []
    if n_pairs < _FEW_PAIRS:
        warnings.append(f"few pairs: {n_pairs}")
    for kind, n in stats["pairs_by_models"].items():
        chosen, _, rejected = kind.partition(" over ")
        if chosen != rejected and n > _MAX_ONE_SIDED * n_pairs:
            beats = f"In {n:,} of {n_pairs:,} pairs {chosen} beats {rejected}"
            warnings.append(f"{beats}, so the pairs mostly teach which model wrote the text")
    consistency = stats["order_consistency"]
    if consistency is not None and consistency < _MIN_CONSISTENCY:
        warnings.append(f"the judge's winner changes with the order in {1 - consistency:.0%} of comparisons")
    return Facts(facts, warnings, older_than_checkpoint(outputs, run, run.settings.get("sft_model")))


def reward(outputs: Outputs, run: Run) -> Facts:
    facts = [("base model", str(run.settings["base_model"])), ("pairs", _counts(run.manifest["n_pairs"]))]
    warnings = []
    validation = run.path / "validation.json"
    if validation.is_file():
        figures = read_shaped(validation, lenient(VALIDATION))
        test = figures["test"]
        facts.append(("ROC-AUC on test", format_number(test["reward"]["roc_auc"])))
        warnings += _style_warnings(test)
        if not test["reward"]["ci95"]["roc_auc"]:
            warnings.append(f"no interval: {figures['n_test_groups']} groups of test pairs, under 20")
    return Facts(facts, warnings, other_preferences(outputs, run))


def policy(outputs: Outputs, run: Run) -> Facts:
    manifest = run.manifest
    facts = [("trained further", str(run.settings["sft_model"])), ("loss", run.settings["objective"]["loss"])]
    warnings = []
    if "kept" in manifest:
        seconds = format_seconds(manifest["train_seconds"])
        facts.append(("training", f"{manifest['n_rows']:,} pairs, {manifest['n_steps']:,} steps, {seconds}"))
        metric = str(manifest["metric_for_best"])
        before = format_number(manifest["before"].get(metric))
        facts.append(
            (f"{metric.removeprefix('eval_')} on val", f"{before}, now {format_number(manifest['best'])}")
        )
        if not manifest["kept"]:
            warnings.append("round not kept: checkpoint-best is the SFT model as it was")
    return Facts(facts, warnings, other_preferences(outputs, run))


def _style_warnings(test: dict) -> list[str]:
    """Says that pairs can be told apart without reading them, or that the head adds nothing to that."""
    warnings = []
    for name, words in (("style_only", "style alone"), ("length_only", "length alone")):
        # A head that was validated on pairs of new groups alone has neither.
        area = test.get(name, {}).get("roc_auc")
        if area is not None and area >= STYLE_LIMIT:
            warnings.append(f"{words} separates the pairs: AUC {area:.2f}")
    return warnings
