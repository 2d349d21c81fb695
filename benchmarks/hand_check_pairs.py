"""Preference pairs to read by hand: 40 of a file with their evidence. Is the chosen side really better?

    python benchmarks/hand_check_pairs.py FILE

FILE has rich rows (make_prefs.py --output-mode rich), which hold the answers too. The script prints; the
verdicts are the reader's.
"""

import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# Committed before its draw was read; the draw with 20261128 led to a repair (docs/log.md).
SEED = 20261129


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prefs", type=Path, help="preferences file of make_prefs.py")
    parser.add_argument("--seed", type=int, default=SEED, help="decides which pairs are drawn")
    parser.add_argument("--n", type=int, default=40, help="pairs to draw")
    return parser


def print_pair(number: int, pair: dict) -> None:
    """The pair as a reader needs it: question, answers, chunks, then both sides."""
    print(f"\n{number}: {pair['id']} ({pair.get('kind', 'pair')}, margin {pair['margin']:.2f})")
    print(f"Q: {pair['question']}")
    print(f"A: {pair['answer']} {pair['answer_aliases']}, support sets {pair['support_sets']}")
    for i, chunk in enumerate(pair["evidence_chunks"]):
        print(f"   {i} [{chunk['title']}] {chunk['text']}")
    for side in ("chosen", "rejected"):
        print(f"{side}: {pair[side][-1]['content']}")


def main(args: argparse.Namespace) -> None:
    from utils.schema import read_preferences

    pairs = read_preferences(args.prefs)
    drawn = random.Random(args.seed).sample(pairs, args.n)
    for number, pair in enumerate(drawn, 1):
        print_pair(number, pair)


if __name__ == "__main__":
    main(build_parser().parse_args())
