"""Flags of build_data.py: which go together, and in which form they name a build."""

import argparse

from evidence.splits import parse_shares
from utils.arguments import refuse_given
from utils.errors import UsageError


def settle_flags(args: argparse.Namespace, parser: argparse.ArgumentParser, sources_config: str) -> None:
    """Check the flags, and write those that say the same in one form, since they name the build.

    UsageError for flags that --check or --sample would ignore, and for shares that make no sense.
    """
    if args.check:
        others = [name for name in vars(args) if name != "check"]
        refuse_given(args, parser.get_default, others, "--check reads one file and builds nothing")
    parse_shares(args.split)
    if args.unanswerable_fraction > 0.9:
        raise UsageError(f"--unanswerable-fraction {args.unanswerable_fraction}: must be at most 0.9")
    if args.sample and args.sources_config:
        raise UsageError("--sample builds the bundled sample alone; leave it or --sources-config out")
    args.sources_config = args.sources_config or sources_config
    if args.limit is not None:
        args.max_per_source = args.limit
    if args.sources is not None:
        args.sources = ",".join(name.strip() for name in args.sources.split(","))


def refuse_split_flags(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """UsageError for flags that an evaluation-only build would ignore."""
    why = "a build with evaluation_only has test samples alone, all of them as their source has them"
    refuse_given(args, parser.get_default, ("made", "split", "unanswerable_fraction"), why)
