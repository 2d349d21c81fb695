"""Coverage-guided fuzzing of everything that reads a model's text. Run by hand; `make test` does not.

    pip install atheris numpy pyyaml     # in an environment of its own: atheris needs no other package here
    python tests/faults/fuzz_completions.py corpus/ -max_total_time=600 -max_len=4096 -timeout=5

It stops at the first text that raises or takes over 5 seconds, and writes that text beside itself. The last
lines say how many texts were run.
"""

import sys
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

with atheris.instrument_imports(include=["utils", "json"]):
    from utils.completions import parse_completion
    from utils.correctness import is_correct, is_partial
    from utils.jsonl import dump_row
    from utils.scoring import score_sample
    from utils.text import split_sentences
    from utils.validator_cases import SELF_CHECK

SAMPLES = [
    {
        "answerable": True,
        "answer_aliases": ["Warsaw", "5 million"],
        "support_sets": [[0]],
        "support_spans": [0],
    },
    {"answerable": True, "answer_aliases": ["supported"], "support_sets": [[0, 2]], "support_spans": [0, 2]},
    {"answerable": False, "answer_aliases": [], "support_sets": [], "support_spans": []},
]


def check(text: str) -> None:
    """Parse and score one text as the stages do. Whatever it is, the result can be written."""
    strict = parse_completion(text, 3, strict=True)
    parsed = parse_completion(text, 3)
    # Of the same text both readings see the same answer, unless repair finds a refusal in it.
    if strict.is_valid and not parsed.is_refusal:
        assert parsed == strict
    for sample in SAMPLES:
        score_sample(parsed, strict.is_valid, sample)
    if parsed.answer is not None:
        dump_row({"answer": parsed.answer, "citations": parsed.citations}).encode("utf-8")
        is_partial(parsed.answer, ["Warsaw (5)", parsed.answer])
    # The text itself as an answer, so that the rules for answers see more than quoted ones.
    is_correct(text, ["12 March 1995", text[::2] or "x"])
    split_sentences(text)


def run(data: bytes) -> None:
    check(data.decode("utf-8", "replace"))


def write_seeds(folder: Path) -> None:
    """The validator's own cases as first texts, for a corpus that is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = [case[0] for case in SELF_CHECK] + [
        "<think>{}</think>",
        "two hundred and 5 1/2 million",
        "Mr. A. XX",
    ]
    for i, text in enumerate(seeds):
        (folder / f"seed-{i}").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    if folders and not any(folders[0].glob("*")):
        write_seeds(folders[0])
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()
