"""Which models an evaluation asks, under which names, and what each of them sees.

Knows the flags of evaluate_sft_fast_robust.py, but no model.
"""

import argparse
from typing import NamedTuple

from evaluation.baselines import EVIDENCE_VIEWS

# What the few-shot examples may take beside a checkpoint's own prompt; with embedded-gemma it is 316.
_EXAMPLE_TOKENS = 1024


class ModelRun(NamedTuple):
    """The prompt template of a model's run, and its view of the evidence (None: all chunks)."""

    template: str
    view: str | None = None


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
    for view in EVIDENCE_VIEWS:
        if getattr(args, f"baseline_{view}"):
            runs[view] = ModelRun(template, view)
    return {name: runs[name] for name in sorted(runs, key=is_base)}


def is_base(name: str) -> bool:
    """True for the runs of the base model."""
    return name.startswith("base")


def longest_row(args: argparse.Namespace, max_prompt_tokens: int) -> int:
    """The most tokens of prompt and completion in any run: examples come on top of the checkpoint's limit."""
    return max_prompt_tokens + args.max_new_tokens + (_EXAMPLE_TOKENS if args.baseline_fewshot else 0)
