"""Prompts and schema: sample -> prompt, completion -> parsed answer, judge text.

Writes prompts/ (templates as text files, output_schema.json, config.yaml); later stages read that folder when it exists.

    python prompt_schema.py save --prompts-dir prompts
    python prompt_schema.py test
    python prompt_schema.py render --data-path data/processed/train.jsonl --template default
    echo '{"answer": "Paris", "citations": [0], "confidence": 0.9}' | python prompt_schema.py parse
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from evidence.retrieval import BM25
from utils.completions import MAX_ANSWER_CHARS, OUTPUT_SCHEMA, gold_completion, parse_completion
from utils.config import home_path, input_path, nearest
from utils.errors import DataError, StageError, UsageError, run_main
from utils.jsonl import sha256_value, write_json, write_text
from utils.runs import describe_run
from utils.schema import read_samples
from utils.text import REFUSAL, split_sentences
from utils.tokens import ChatFrame, encode_plain

SHIPPED_DIR = Path(__file__).resolve().parent / "prompts"


def read_template(path: Path) -> str:
    """The template in a file. One final newline belongs to the file, as in every text file, not to the template."""
    return path.read_text(encoding="utf-8").removesuffix("\n")


# In an SFT template the question stands before the evidence and again after it: each chunk is then read with the question in
# mind, which a causal model cannot do otherwise ("query-aware contextualization", Liu et al., 2023).
# <<...>> in sft_fewshot.txt is the assistant's turn of a chat model, and plain text for a base model. In one user turn a small
# model repeats an example instead of following it (docs/log.md).
SFT_TEMPLATES = {
    name: read_template(SHIPPED_DIR / f"sft_{name}.txt") for name in ("default", "structured", "fewshot")
}
JUDGE_TEMPLATES = {name: read_template(SHIPPED_DIR / f"judge_{name}.txt") for name in ("default", "simple")}
# Slots that a template of a kind must contain beside {evidence}, with the kind's name in a message.
SLOTS = {
    "sft": ("an SFT", ["{question}"]),
    "judge": ("a judge", ["{question}", "{answer_a}", "{answer_b}"]),
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{save,test,render,parse,judge}")
    save = commands.add_parser("save", help="write the templates, output_schema.json and config.yaml")
    save.add_argument("--dry-run", action="store_true", help="name the files and write nothing")
    save.add_argument("--overwrite", action="store_true", help="replace templates that were edited")
    commands.add_parser("test", help="check the validator against known cases; exit 1 when one fails")
    render = commands.add_parser("render", help="print the prompts of samples as text")
    judge = commands.add_parser("judge", help="print the judge prompt for two answers to the first sample")
    parse = commands.add_parser(
        "parse", help="read a completion from stdin, print what the validator makes of it"
    )
    parse.add_argument("--n-chunks", type=int, default=10, help="number of evidence chunks that were shown")
    parse.add_argument("--strict", action="store_true", help="repair nothing")
    for command in (render, judge):
        command.add_argument("--data-path", required=True, help="a sample file of build_data.py")
        command.add_argument("--template", default="default", help="template name")
    render.add_argument("--limit", type=int, default=1, help="number of samples")
    judge.add_argument(
        "--answer-a",
        default='{"answer": "yes", "citations": [0], "confidence": 0.9}',
        help="first completion",
    )
    judge.add_argument(
        "--answer-b",
        default='{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [], "confidence": 0.0}',
        help="second completion",
    )
    for command in (save, render, judge):
        command.add_argument(
            "--prompts-dir", default="prompts", help="folder of the templates (default: prompts)"
        )
    return parser


# --- templates


def shipped_files() -> dict[str, str]:
    """The shipped templates by file name."""
    sft = {f"sft_{name}.txt": text for name, text in SFT_TEMPLATES.items()}
    judge = {f"judge_{name}.txt": text for name, text in JUDGE_TEMPLATES.items()}
    return sft | judge


def edited_files(prompts_dir: Path) -> list[str]:
    """Names of the template files in `prompts_dir` whose template differs from the shipped one."""
    edited = []
    for name, text in shipped_files().items():
        path = prompts_dir / name
        if path.is_file() and read_template(path) != text:
            edited.append(name)
    return edited


def save_prompts(prompts_dir: Path, overwrite: bool = False) -> list[str]:
    """Write the shipped templates, the output schema and the settings. Returns the names of all files.

    A template that is there already and differs is somebody's work: UsageError, before anything is written, unless
    `overwrite`. In the repository root `prompts_dir` is the shipped folder itself, so nothing can differ there and its
    templates are left untouched: git stays clean.
    """
    edited = edited_files(prompts_dir)
    if edited and not overwrite:
        raise UsageError(
            f"{prompts_dir}: {', '.join(edited)} differ from the shipped templates; "
            "add --overwrite to replace them, or choose another --prompts-dir"
        )
    for name, text in shipped_files().items():
        path = prompts_dir / name
        if name in edited or not path.is_file():
            write_text(path, text + "\n")
    write_json(prompts_dir / "output_schema.json", OUTPUT_SCHEMA)
    settings = {
        "refusal_token": REFUSAL,
        "max_answer_chars": MAX_ANSWER_CHARS,
        "sft_templates": list(SFT_TEMPLATES),
        "judge_templates": list(JUDGE_TEMPLATES),
    }
    write_text(prompts_dir / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    return [*shipped_files(), "output_schema.json", "config.yaml"]


def load_template(kind: str, name: str, prompts_dir: str | Path = "prompts") -> str:
    """Template text of kind "sft" or "judge": from `prompts_dir` when that folder exists, else the shipped one.

    UsageError when there is none of that name, or when it lacks a slot.
    """
    shipped = {"sft": SFT_TEMPLATES, "judge": JUDGE_TEMPLATES}[kind]
    folder = input_path(prompts_dir)
    path = folder / f"{kind}_{name}.txt"
    if path.is_file():
        text = read_template(path)
    elif name in shipped and not folder.is_dir():
        text = shipped[name]
    else:
        known = {p.stem.removeprefix(f"{kind}_") for p in folder.glob(f"{kind}_*.txt")} or set(shipped)
        raise UsageError(f"no {kind} template {name!r} in {folder}{nearest(name, known)}")
    article, slots = SLOTS[kind]
    if any(slot not in text for slot in slots) or text.count("{evidence}") != 1:
        raise UsageError(
            f"{path}: {article} template must contain {', '.join(slots)} and exactly one {{evidence}}"
        )
    return text


def template_hash(text: str) -> str:
    return sha256_value(text)[:12]


def render_evidence(chunks: list[dict]) -> str:
    """Numbered lines. The number stands at both ends: the closing one has seen its chunk, so a causal model can look it up by content."""
    return "\n".join(f"[{i}] {chunk['title']}: {chunk['text']} [{i}]" for i, chunk in enumerate(chunks))


def split_template(template: str) -> tuple[str, str]:
    """The constant head of a template, which all its prompts share, and the rest from the first slot on."""
    start = min(template.index(slot) for slot in ("{evidence}", "{question}"))
    return template[:start], template[start:]


def fill_template(template: str, **values: str) -> str:
    """Fill the named slots left to right; a slot name inside a value stays text."""
    parts = re.split("(" + "|".join(re.escape("{" + name + "}") for name in values) + ")", template)
    return "".join(values[part[1:-1]] if part[:1] == "{" and part[1:-1] in values else part for part in parts)


# --- prompts as token ids: the one function of training, evaluation, preferences and reward model


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt. `prefix` is the same for every sample of a template. `shown[i]` is the sample's id of chunk number i."""

    prefix: list[int]
    suffix: list[int]
    shown: list[int]
    chunks: list[dict] = field(repr=False)

    @property
    def ids(self) -> list[int]:
        return self.prefix + self.suffix

    def shows_support(self, sample: dict) -> bool:
        """True when a full support set of the sample survived cutting (always, for an unanswerable sample)."""
        if not sample["answerable"]:
            return True
        uncut = set()
        for chunk, i in zip(self.chunks, self.shown):
            if chunk["text"] == sample["evidence_chunks"][i]["text"]:
                uncut.add(i)
        return any(uncut.issuperset(support_set) for support_set in sample["support_sets"])


class PromptBuilder:
    """Builds prompts of one template for one tokenizer, cutting chunks that do not fit `max_tokens`."""

    def __init__(self, tokenizer, template: str, max_tokens: int):
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        head, self._rest = split_template(template)
        self._frame = ChatFrame(tokenizer, head)
        self.prefix = self._frame.prefix

    def _suffix(self, question: str, chunks: list[dict]) -> list[int]:
        text = fill_template(self._rest, evidence=render_evidence(chunks), question=question)
        return encode_plain(self.tokenizer, text) + self._frame.closing

    def build(self, sample: dict) -> Prompt:
        """The prompt of a sample. Chunks are cut blind to gold: lowest BM25 score to the question first, then trailing sentences, then words."""
        chunks = sample["evidence_chunks"]
        question = sample["question"]
        shown = list(range(len(chunks)))
        suffix = self._suffix(question, chunks)
        budget = self.max_tokens - len(self.prefix)
        if len(suffix) > budget:
            scores = BM25([f"{c['title']}. {c['text']}" for c in chunks]).scores(question)
            while len(suffix) > budget and len(shown) > 1:
                shown.remove(min(shown, key=lambda i: (scores[i], -i)))
                suffix = self._suffix(question, [chunks[i] for i in shown])
        kept = [chunks[i] for i in shown]
        while len(suffix) > budget:
            sentences = split_sentences(kept[0]["text"])
            words = kept[0]["text"].split()
            if len(words) < 2:
                raise DataError(
                    f"{sample['id']}: question and one word need {len(suffix) + len(self.prefix)} tokens, limit {self.max_tokens}; raise it"
                )
            # A table or a list is one sentence of hundreds of words; a tenth of it goes at a time.
            left = sentences[:-1] if len(sentences) > 1 else words[: -max(1, len(words) // 10)]
            kept = [{**kept[0], "text": " ".join(left)}]
            suffix = self._suffix(question, kept)
        return Prompt(self.prefix, suffix, shown, kept)


class JudgePrompts:
    """Builds judge prompts of one template as token ids."""

    def __init__(self, tokenizer, template: str):
        self.tokenizer = tokenizer
        head, self._rest = split_template(template)
        self._frame = ChatFrame(tokenizer, head)

    def build(self, chunks: list[dict], question: str, answer_a: str, answer_b: str) -> list[int]:
        body = fill_template(
            self._rest,
            evidence=render_evidence(chunks),
            question=question,
            answer_a=answer_a,
            answer_b=answer_b,
        )
        return self._frame.prefix + encode_plain(self.tokenizer, body) + self._frame.closing


# --- the validator's own cases

# (completion, strict, answer, citations, confidence, valid): what `test` checks
SELF_CHECK = [
    ('{"answer": "Paris", "citations": [0, 2], "confidence": 0.9}', True, "Paris", [0, 2], 0.9, True),
    (
        '{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [], "confidence": 0.0}',
        True,
        REFUSAL,
        [],
        0.0,
        True,
    ),
    (
        '{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [1], "confidence": 0.0}',
        False,
        REFUSAL,
        [1],
        0.0,
        False,
    ),
    ('{"answer": "Paris", "citations": [7], "confidence": 0.9}', False, "Paris", [7], 0.9, False),
    ('```json\n{"answer": "Paris", "citations": [0], "confidence": 0.9}\n```', True, None, [], None, False),
    (
        '```json\n{"answer": "Paris", "citations": [0], "confidence": 0.9}\n```',
        False,
        "Paris",
        [0],
        0.9,
        False,
    ),
    (
        'Sure! {"answer": "Paris", "citations": ["[1]"], "confidence": "95%"}',
        False,
        "Paris",
        [1],
        0.95,
        False,
    ),
    (
        '{"answer": "INSUFFICIENT_EVIDENCE", "citations": [], "confidence": 0.0}',
        False,
        REFUSAL,
        [],
        0.0,
        False,
    ),
    ('{"answer": "Paris", "citations": ["the first"], "confidence": 2}', False, "Paris", [-1], None, False),
    ('{"citations": [0], "confidence": 0.9}', False, None, [], None, False),
    ("Paris", False, None, [], None, False),
    ("", False, None, [], None, False),
]


def self_check() -> list[str]:
    failures = []
    for text, strict, answer, citations, confidence, valid in SELF_CHECK:
        parsed = parse_completion(text, 5, strict)
        found = (parsed.answer, parsed.citations, parsed.confidence, parsed.is_valid)
        if found != (answer, citations, confidence, valid):
            failures.append(
                f"{text!r} (strict={strict}): expected {(answer, citations, confidence, valid)}, found {found}"
            )
    return failures


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    if args.command == "save":
        folder = home_path(args.prompts_dir)
        if args.dry_run:
            print(
                f"would write {len(SFT_TEMPLATES)} SFT and {len(JUDGE_TEMPLATES)} judge templates, output_schema.json and config.yaml to {folder}"
            )
            return
        names = save_prompts(folder, args.overwrite)
        write_json(folder / "run.json", describe_run({"files": names}, {}, None) | {"status": "complete"})
        print(f"wrote {len(names)} files to {folder}: {', '.join(names)}")
        print("next: python train_sft.py -c configs/sft_gemma2.yaml")
    elif args.command == "test":
        if failures := self_check():
            raise StageError(
                f"{len(failures)} of {len(SELF_CHECK)} validator cases fail:\n" + "\n".join(failures)
            )
        print(f"validator: {len(SELF_CHECK)} of {len(SELF_CHECK)} cases pass")
    elif args.command == "render":
        template = load_template("sft", args.template, args.prompts_dir)
        for sample in read_samples(input_path(args.data_path))[: args.limit]:
            print(
                fill_template(
                    template, evidence=render_evidence(sample["evidence_chunks"]), question=sample["question"]
                )
            )
            print(gold_completion(sample, list(range(len(sample["evidence_chunks"])))) + "\n")
    elif args.command == "judge":
        template = load_template("judge", args.template, args.prompts_dir)
        sample = read_samples(input_path(args.data_path))[0]
        evidence = render_evidence(sample["evidence_chunks"])
        print(
            fill_template(
                template,
                evidence=evidence,
                question=sample["question"],
                answer_a=args.answer_a,
                answer_b=args.answer_b,
            )
        )
    else:
        parsed = parse_completion(sys.stdin.read(), args.n_chunks, args.strict)
        fields = {
            name: getattr(parsed, name)
            for name in ("answer", "citations", "confidence", "is_refusal", "is_valid", "repaired", "errors")
        }
        print(json.dumps(fields, ensure_ascii=False, indent=2))


if __name__ == "__main__":
    run_main(main)
