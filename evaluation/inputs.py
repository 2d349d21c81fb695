"""Checks of the files, models and templates that evaluate_sft_fast_robust.py and robustness.py are given.

They run before the model libraries are imported, so a wrong file is named at once.
"""

import argparse

from models.directories import check_adapter_dir, check_model_name
from utils.config import input_path
from utils.recognition import check_kind
from utils.schema import check_rows, read_samples
from utils.templates import load_template


def check_inputs(args: argparse.Namespace) -> None:
    """DataError or UsageError for the first input that is not what its flag needs; flags may be absent."""
    check_rows(input_path(args.test_data), read_samples)
    predictions = getattr(args, "predictions", None)
    if predictions:
        check_kind(input_path(predictions), "predictions")
    # A rescoring reads the checkpoint's calibration alone, but no checkpoint that is not there.
    if args.model_path and not (predictions and input_path(args.model_path).exists()):
        check_adapter_dir(args.model_path)
    if getattr(args, "base_model", None):
        check_model_name(args.base_model)
    if args.template:
        load_template("sft", args.template)


def check_results(paths: list[str]) -> None:
    """DataError for the first path that is no results file."""
    for path in paths:
        check_kind(input_path(path), "results")
