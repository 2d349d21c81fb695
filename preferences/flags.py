"""Groups of flags of make_prefs.py. No model library is imported, so that a parser shows them at once."""

import argparse
from collections.abc import Callable

from models.choices import add_bit_flags, add_model_flags
from preferences.forms import FORMS
from preferences.judges import JUDGES, default_judge
from preferences.label_share import MIN_LABEL_SHARE
from utils.arguments import positive_int, share, temperature, whole_number
from utils.config import input_path
from utils.errors import DataError, UsageError

# Flags of the judge with their defaults, and those that each kind of judge reads (`Judge.model`).
_OF_JUDGES = {
    "judge_model": None,
    "judge_use_8bit": False,
    "judge_use_4bit": False,
    "judge_template": "default",
    "min_label_share": MIN_LABEL_SHARE,
}
_SCORER_READS = ("judge_model", "judge_use_8bit")
_READS = {"": (), "compares": tuple(_OF_JUDGES), "rewards": _SCORER_READS, "likelihood": _SCORER_READS}


def add_exchange_flags(group: argparse._ArgumentGroup) -> None:
    """`--import` and `--export`, each of which does this alone, and what they read."""
    either = group.add_mutually_exclusive_group()
    takes = "write preferences of UltraFeedback-like or RewardBench-like rows (JSON lines), and stop"
    either.add_argument("--import", dest="import_file", metavar="FILE", help=takes)
    gives = "write a preferences file in this form beside it, and stop"
    either.add_argument("--export", choices=tuple(FORMS), help=gives)
    prefs = "preferences file for --export (default: the newest of --prefs-dir)"
    group.add_argument("--prefs", metavar="FILE", help=prefs)
    bad = "count and skip malformed rows of --import instead of stopping"
    group.add_argument("--skip-bad", action="store_true", help=bad)


def add_pair_flags(add: Callable) -> None:
    """Flags that change which pairs are written, by a group's `add_argument`."""
    margin = "keep a pair when its scores differ by at least this (0-1; default: 0.1)"
    add("--min-margin", type=share, default=0.1, help=margin)
    gold = "one pair per sample: the gold completion over the likeliest candidate that is worse"
    add("--gold-chosen", action="store_true", help=gold)
    hard = "add up to N made rejections per sample, each worse in one known way (without a number: 2)"
    add("--hard-rejections", type=positive_int, nargs="?", const=2, default=0, metavar="N", help=hard)
    form = "keep pairs in which form alone (length, citations, confidence, refusal) tells nothing"
    add("--match-form", action="store_true", help=form)
    unparsable = "largest share of pairs over an unparsable completion (default: 0.1; 1 with the base's)"
    add("--max-unparsable", type=share, help=unparsable)


def check_judge_flags(args: argparse.Namespace) -> None:
    """UsageError for a flag that the judge of `args` does not read, and for a judge without its model."""
    name = args.judge or default_judge(args.judge_model)
    if JUDGES[name].model and not args.judge_model:
        raise UsageError(f"--judge {name} needs --judge-model")
    if args.gold_chosen and name != "verifier":
        raise UsageError(f"--gold-chosen: gold decides its pairs, not --judge {name}; take --judge verifier")
    read = _READS[JUDGES[name].model]
    for flag, default in _OF_JUDGES.items():
        if flag not in read and getattr(args, flag) != default:
            others = [other for other, judge in JUDGES.items() if flag in _READS[judge.model]]
            raise UsageError(
                f"--{flag.replace('_', '-')}: --judge {name} does not read it; leave it out, or judge with "
                f"{', '.join(others)}"
            )


def add_generator_flags(model: argparse._ArgumentGroup) -> None:
    """Flags of the models: those that generate, and the one that judges."""
    add = model.add_argument
    add("--sft-model", help="checkpoint directory of train_sft.py")
    add("--base-model", help="hub id, directory or embedded (default: the checkpoint's base)")
    add("--policy-model", help="a later checkpoint of the same prompts, for --models sft,policy")
    add("--template", help="prompt template of the candidates (default: the checkpoint's)")
    add("--temperature", type=temperature, help="0: one candidate per model (default: 0.7)")
    top_p = "sample from the smallest set of tokens with this probability (default: 1.0)"
    add("--top-p", type=share, help=top_p)
    add("--top-k", type=whole_number, help="sample from this many tokens; 0: from all (default: 0)")
    judge = "who scores (default: llm if --judge-model is given, else verifier, which checks against gold)"
    add("--judge", choices=tuple(JUDGES), help=judge)
    judge_model = "model that compares candidates; for reward a head, for citations a checkpoint"
    add("--judge-model", help=judge_model)
    add("--judge-template", default="default", help="default or simple (default: default)")
    add("--min-label-share", type=share, default=MIN_LABEL_SHARE, help="least probability of A and B (0-1)")
    # The generators' flags are part of a cache's settings, so None marks one that was not given.
    add_model_flags(model, "the generators", default=None)
    add_bit_flags(model, "the judge", "--judge-use")


def check_gold(args: argparse.Namespace, samples: list[dict]) -> None:
    """DataError for questions without gold where the judge of the flags, or a made rejection, needs it."""
    without = [sample["id"] for sample in samples if sample["answerable"] is None]
    if args.phase == "generate" or not without:
        return
    kind = args.judge or default_judge(args.judge_model)
    n_without = f"{len(without):,} of {len(samples):,} questions have no gold"
    found = f"{input_path(args.data_path)}: {n_without}, e.g. {without[0]}"
    if JUDGES[kind].needs_gold:
        free = ", ".join(name for name, judge in JUDGES.items() if not judge.needs_gold)
        raise DataError(
            f"{found}; --judge {kind} compares with gold: take one of {free}, with its --judge-model"
        )
    if args.hard_rejections:
        raise DataError(f"{found}; --hard-rejections are made of gold: leave the flag out")
