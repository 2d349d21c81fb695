"""The flags of a training that train nothing: `--merge`, `--export` and `--calibrate` of a finished run."""

import argparse

from training.decisions import calibrate
from training.export import Export, describe_parity, export_gguf
from training.plan import evaluate_command
from utils.config import home_path
from utils.runs import note


def use_finished_run(args: argparse.Namespace, job: Export) -> None:
    """Do what the flags ask for with checkpoint-best."""
    if args.calibrate:
        print(calibrate(job, args.overwrite))
        checkpoint = f"{job.config['output_dir']}/checkpoint-best"
        command = evaluate_command(job.config, checkpoint, "eval_fitted.json", "--decisions", "fitted")
        note(f"next: {command}")
    # Of the stages that have it.
    if getattr(args, "export", None):
        path = home_path(job.config["output_dir"]) / "checkpoint-best.gguf"
        print(f"wrote {path} ({describe_parity(export_gguf(job, path))})")
    if args.merge:
        target = home_path(args.merge)
        print(f"wrote {target} ({describe_parity(job.merge(target))})")
        note(f"next: {evaluate_command(job.config, args.merge, 'eval_merged.json')}")
