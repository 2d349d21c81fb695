"""Which models an evaluation asks, under which names, and what each of them sees.

Knows the flags of evaluate_sft_fast_robust.py, but no model.
"""

import argparse
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from evaluation.baselines import EVIDENCE_VIEWS
from evaluation.results import ONE_ORDER
from evidence.orders import agreed, chunk_orders
from utils.arguments import given_flag, order_count, several
from utils.errors import UsageError

# Flags by which a model is asked, which completions of a file are not.
_ASKING = (
    *("compare_baseline", "baseline_fewshot", "baseline_closed_book", "baseline_gold_only", "constrained"),
    *("orders", "best_of", "template", "max_new_tokens", "temperature", "engine", "attn_impl"),
    *("use_4bit", "use_8bit"),
)
# What the few-shot examples may take beside a checkpoint's own prompt; with embedded-gemma it is 316.
_EXAMPLE_TOKENS = 1024


class ModelRun(NamedTuple):
    """The prompt template of a model's run, and its view of the evidence (None: all chunks).

    A view takes a sample and returns the ids of the chunks that the prompt shows.
    """

    template: str
    view: Callable[[dict], list[int]] | None = None


def add_run_flags(group: argparse._ArgumentGroup) -> None:
    """The flags that add runs to that of the checkpoint."""
    add = group.add_argument
    add("--compare-baseline", action="store_true", help="also evaluate the base model on the same prompts")
    add("--baseline-fewshot", action="store_true", help="also evaluate the base model with few-shot prompts")
    closed_book = "also evaluate the checkpoint without evidence: what it answers from memory"
    add("--baseline-closed-book", action="store_true", help=closed_book)
    gold_only = "also evaluate with the support chunks only; the gap is what distractors cost"
    add("--baseline-gold-only", action="store_true", help=gold_only)
    add("--constrained", action="store_true", help="also evaluate each model constrained to the schema")
    orders = "answer with the chunks in N orders (2-8) and take what they agree on, at N times the cost"
    add("--orders", type=order_count, metavar="N", help=orders)
    best = "also take the best of N completions, the greedy one and N-1 samples, by --reward-model"
    add("--best-of", type=several, metavar="N", help=best)
    add("--reward-model", metavar="DIR", help="head of train_rm.py, such as checkpoints/rm/best")


def check_flags(args: argparse.Namespace, default_of: Callable[[str], Any]) -> None:
    """UsageError for flags that contradict or lack each other. Sets the temperature that was not given.

    `default_of`: a flag's name -> what it is where it was not given.
    """
    if not args.test_data:
        raise UsageError("name the samples with --test-data, for example data/processed/test.jsonl")
    if not args.predictions and not args.model_path:
        raise UsageError("name a checkpoint with --model-path, or completions with --predictions")
    if args.confidence_threshold is not None and args.wanted_precision is not None:
        raise UsageError("--confidence-threshold and --wanted-precision both set a threshold; give one")
    if bool(args.best_of) != bool(args.reward_model):
        raise UsageError("--best-of N and --reward-model DIR need each other; give both or none")
    if args.predictions and (flag := given_flag(args, default_of, _ASKING)):
        raise UsageError(f"{flag} asks a model; give --model-path instead of --predictions")
    if args.decisions and not args.model_path:
        raise UsageError("--decisions names a fit of a checkpoint; name that with --model-path")
    has_threshold = args.confidence_threshold is not None or args.wanted_precision is not None
    if args.confidence_kind == "calibrated" and not has_threshold:
        raise UsageError(
            "--confidence-kind says what a threshold applies to; add a --confidence-threshold or "
            "--wanted-precision"
        )
    if args.orders and args.best_of:
        raise UsageError("--orders and --best-of each decide what is returned; give one")
    if args.orders and args.wanted_precision is not None:
        raise UsageError(
            "--wanted-precision has its threshold from val answers of one order; leave out --orders, or give "
            "a --confidence-threshold"
        )
    if args.decisions == "answer" and args.wanted_precision is not None:
        raise UsageError(
            "--wanted-precision has its threshold from val answers of a model that may refuse; leave out "
            "--decisions answer, or give a --confidence-threshold"
        )
    if args.best_of and args.temperature == 0:
        raise UsageError("--best-of N samples; give a --temperature above 0 (default: 1)")
    if args.temperature is None:
        args.temperature = 1.0 if args.best_of else 0.0


def plan_models(args: argparse.Namespace, template: str) -> dict[str, ModelRun]:
    """Name in the results -> run. Those of the checkpoint come first, so that each model is loaded once."""
    runs = {"sft": ModelRun(template)}
    if args.compare_baseline:
        runs["base"] = ModelRun(template)
    if args.baseline_fewshot:
        # Without examples a base model fails on the format alone; with them the rest can be compared.
        runs["base_fewshot"] = ModelRun("fewshot")
    # Constrained decoding hides format errors, so each opponent gets it too, beside the free run.
    if args.constrained:
        runs |= {f"{name}_constrained": run for name, run in runs.items()}
    for number in range(1, args.orders or 1):
        runs[_order_run(number)] = ModelRun(template, functools.partial(_order_of, number, args.orders))
    for name, view in EVIDENCE_VIEWS.items():
        if getattr(args, f"baseline_{name}"):
            runs[name] = ModelRun(template, view)
    return {name: runs[name] for name in sorted(runs, key=is_base)}


def _order_run(number: int) -> str:
    return f"sft_order_{number}"


def _order_of(number: int, n_orders: int, sample: dict) -> list[int]:
    """The chunk ids in the order of this number; of a sample with fewer orders in their own."""
    orders = chunk_orders(len(sample["evidence_chunks"]), n_orders)
    return orders[number] if number < len(orders) else orders[0]


def with_agreed(rows: list[dict], n_orders: int | None) -> list[dict]:
    """Prediction rows, those of several orders replaced by what they agree on.

    "sft" then has what is agreed on, and "one_order" what the chunks in their own order give.
    """
    if not n_orders:
        return rows
    orders = {"sft", *(_order_run(number) for number in range(1, n_orders))}
    of_sample: dict[str, dict[tuple, dict]] = {}
    for row in rows:
        if row["model"] in orders:
            # An order that comes again, of a sample with few chunks, has no second vote.
            of_sample.setdefault(row["id"], {}).setdefault(tuple(row["shown"]), row)
    found = [{**agreed(list(of_orders.values())), "model": "sft"} for of_orders in of_sample.values()]
    found += [{**row, "model": ONE_ORDER} for row in rows if row["model"] == "sft"]
    return found + [row for row in rows if row["model"] not in orders]


def is_base(name: str) -> bool:
    """True for the runs of the base model."""
    return name.startswith("base")


def file_order(names: Iterable[str], samples: list[dict]) -> Callable[[dict], tuple[int, int]]:
    """The place of a prediction row: of its model, then of its sample. Batches are sorted by length."""
    of_model = {name: i for i, name in enumerate(names)}
    of_sample = {sample["id"]: i for i, sample in enumerate(samples)}
    return lambda row: (of_model[row["model"]], of_sample[row["id"]])


def longest_row(args: argparse.Namespace, max_prompt_tokens: int) -> int:
    """The most tokens of prompt and completion in any run: examples come on top of the checkpoint's limit."""
    return max_prompt_tokens + args.max_new_tokens + (_EXAMPLE_TOKENS if args.baseline_fewshot else 0)
