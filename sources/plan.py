"""`--dry-run` of build_data.py: which files are there, what would be fetched, and what a build costs."""

import argparse
from pathlib import Path

from sources.files import planned_files


def print_plan(args: argparse.Namespace, config: dict, data_dir: Path, root: Path) -> None:
    """`--dry-run`: each file with its state, and the rough cost. `root`: where the config's paths begin."""
    for source, role, path, state in planned_files(config, data_dir / "raw", root):
        print(f"{source:10s} {role:9s} {path}: {state}")
    n_rows = args.max_per_source
    rows = f"up to {n_rows * len(config['sources'])} rows" if n_rows else "all rows"
    cost = "about 1 GB of memory and a few minutes" if n_rows else "about 5 GB of memory and 20 minutes"
    twins = "" if config.get("evaluation_only") else ", plus twins,"
    print(f"would build {rows}{twins} into {data_dir / 'processed'}")
    print(f"needs about 3 GB of disk with the public wiki pages, {cost}")
