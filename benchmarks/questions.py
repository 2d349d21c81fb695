"""The table of docs/ask.md: what a checkpoint made of the 20 questions in data/ask, beside what is right.

Reads replies (what `ask.py --json` prints) from stdin, and data/ask/expected.txt with a line for each of
the questions: the right answer, or `-` where the text does not say. An answer counts as right if a quote
has its words too.

    cat data/ask/questions.txt | python ask.py --model MODEL --evidence data/ask/tide_mill.md --json > replies
    cat replies | python -m benchmarks.questions
"""

import json
import sys
from collections import Counter
from pathlib import Path

from utils.text import normalize_answer

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = ROOT / "data/ask/expected.txt"
NOTHING = "-"
SILENCE = "*does not say*"


def outcome(reply: dict, expected: str) -> str:
    """How a reply is counted: as right, right with the wrong quote, wrong, or as one of two refusals."""
    if reply["is_refusal"]:
        return "right refusal" if expected == NOTHING else "wrong refusal"
    if normalize_answer(reply["answer"]) != normalize_answer(expected):
        return "wrong"
    # For verdicts no words are looked for, and nobody but a reader can tell.
    return "right, wrong quote" if reply["words_in_quotes"] is False else "right"


def table_row(reply: dict, expected: str) -> str:
    said = SILENCE if reply["is_refusal"] else reply["answer"]
    if reply["words_in_quotes"] is False:
        said += " (with the warning: wrong quote)"
    confidence = "" if reply["confidence"] is None else f"{reply['confidence']:.2f}"
    right = SILENCE if expected == NOTHING else expected
    return f"| {reply['question']} | {right} | {said} | {confidence} |"


def main() -> None:
    replies = [json.loads(line) for line in sys.stdin]
    expected = EXPECTED.read_text(encoding="utf-8").splitlines()
    print("| question | right | the demo said | confidence (of the fit) |\n|---|---|---|---|")
    for reply, answer in zip(replies, expected, strict=True):
        print(table_row(reply, answer))
    counts = Counter(map(outcome, replies, expected))
    print("\n" + ", ".join(f"{name} {n}" for name, n in counts.most_common()))


if __name__ == "__main__":
    main()
