"""Prompts and schema: sample -> prompt, completion -> parsed answer, judge text.

Reads the templates that ship in prompts/. `save` writes them to --prompts-dir with output_schema.json and
config.yaml; later stages read that folder when it exists, so a template can be edited there.

    python prompt_schema.py save --prompts-dir prompts
    python prompt_schema.py test
    python prompt_schema.py render --data-path data/processed/train.jsonl --template default
    echo '{"answer": "Paris", "citations": [0], "confidence": 0.9}' | python prompt_schema.py parse
"""

import argparse
import contextlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from evidence.fitting import cut_evidence
from utils.arguments import sample_limit, stage_parser, whole_number
from utils.commands import train_command
from utils.completions import (
    MAX_ANSWER_CHARS,
    OUTPUT_SCHEMA,
    gold_completion,
    parse_completion,
    render_completion,
)
from utils.config import home_path, input_path
from utils.errors import DataError, StageError, UsageError
from utils.jsonl import write_json, write_text
from utils.locks import cache_lock
from utils.outputs import check_folder_output
from utils.runs import describe_run, note
from utils.schema import read_samples
from utils.startup import run_main
from utils.templates import (
    JUDGE_TEMPLATES,
    SFT_TEMPLATES,
    edited_files,
    fill_template,
    load_template,
    shipped_files,
    split_template,
)

# For the training scripts, which import all that concerns prompts from here.
from utils.templates import template_hash as template_hash
from utils.text import REFUSAL
from utils.tokens import ChatFrame, without_turns
from utils.validator_cases import SELF_CHECK, failing_cases

# What `judge` compares by default: an answer with a citation, and a refusal.
ANSWER_A = render_completion("yes", [0], 0.9)
ANSWER_B = render_completion(REFUSAL, [], 0.0)


def build_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{save,test,render,parse,judge}")
    save = commands.add_parser("save", help="write the templates, output_schema.json and config.yaml")
    commands.add_parser("test", help="check the validator against known cases; exit 1 if one fails")
    render = commands.add_parser("render", help="print the prompts of samples as text")
    judge = commands.add_parser("judge", help="print the judge prompt for two answers to the first sample")
    parse = commands.add_parser("parse", help="read a completion from stdin and print the validator's result")

    for command in (save, render, judge):
        files = command.add_argument_group("files")
        files.add_argument("--prompts-dir", default="prompts", help="folder of templates (default: prompts)")
        if command is not save:
            files.add_argument("--data-path", required=True, help="sample file, from build_data.py")
            files.add_argument("--template", default="default", help="template name (default: default)")
    answers = judge.add_argument_group("model")
    answers.add_argument("--answer-a", default=ANSWER_A, help="completion A (default: a cited yes)")
    answers.add_argument("--answer-b", default=ANSWER_B, help="completion B (default: a refusal)")
    limits = render.add_argument_group("limits")
    limit_help = "print at most N samples (0: all; default: 1)"
    limits.add_argument("--limit", type=sample_limit, default=1, metavar="N", help=limit_help)
    limits = parse.add_argument_group("limits")
    limits.add_argument(
        "--n-chunks", type=whole_number, default=10, help="chunks in the prompt (default: 10)"
    )
    limits.add_argument("--strict", action="store_true", help="repair nothing")
    run = save.add_argument_group("run")
    run.add_argument("--overwrite", action="store_true", help="replace templates that were edited")
    run.add_argument("--dry-run", action="store_true", help="name the files and write nothing")
    return parser


# --- templates


def save_prompts(prompts_dir: Path, overwrite: bool = False) -> list[str]:
    """Write missing templates, the output schema and the settings. Returns the names of the files it wrote.

    UsageError, with nothing written, if a template differs from the shipped one: it is somebody's work.
    `overwrite` replaces it. In the repository root `prompts_dir` is the shipped folder itself, so no template
    differs or is missing, and git stays clean.
    """
    edited = edited_files(prompts_dir)
    if edited and not overwrite:
        raise UsageError(
            f"{prompts_dir}: {', '.join(edited)} differ from the shipped templates; "
            "add --overwrite to replace them, or choose another --prompts-dir"
        )
    written = []
    for name, text in shipped_files().items():
        if name in edited or not (prompts_dir / name).is_file():
            write_text(prompts_dir / name, text + "\n")
            written.append(name)

    write_json(prompts_dir / "output_schema.json", OUTPUT_SCHEMA)
    settings = {
        "refusal_token": REFUSAL,
        "max_answer_chars": MAX_ANSWER_CHARS,
        "sft_templates": list(SFT_TEMPLATES),
        "judge_templates": list(JUDGE_TEMPLATES),
    }
    write_text(prompts_dir / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
    return [*written, "output_schema.json", "config.yaml"]


def render_evidence(chunks: list[dict]) -> str:
    """One numbered line per chunk, with the number at both ends.

    The closing number follows its chunk, so a causal model can look the number up by the chunk's content.
    """
    return "\n".join(f"[{i}] {chunk['title']}: {chunk['text']} [{i}]" for i, chunk in enumerate(chunks))


# --- prompts as token ids: training, evaluation, preferences and the reward model all build them here


@dataclass(frozen=True)
class Prompt:
    """Token ids of one prompt. `prefix` is the same for every sample of a template.

    `chunks` are the chunks as shown, and `shown[i]` is the sample's id of chunk number i.
    """

    prefix: list[int]
    suffix: list[int]
    shown: list[int]
    # Left out of the repr, which would print pages of evidence.
    chunks: list[dict] = field(repr=False)

    @property
    def ids(self) -> list[int]:
        return self.prefix + self.suffix

    def shows_support(self, sample: dict) -> bool:
        """True if a full support set of the sample is shown uncut (always, for an unanswerable sample)."""
        if not sample["answerable"]:
            return True
        # A chunk that lost sentences may have lost the answer, so it counts as not shown.
        uncut = set()
        for chunk, i in zip(self.chunks, self.shown):
            if chunk["text"] == sample["evidence_chunks"][i]["text"]:
                uncut.add(i)
        return any(uncut.issuperset(support_set) for support_set in sample["support_sets"])


class PromptBuilder:
    """Builds prompts of one template for one tokenizer, cutting evidence that does not fit `max_tokens`."""

    def __init__(self, tokenizer, template: str, max_tokens: int):
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        # Prefix and suffix are encoded apart, so that a batch can compute the prefix once.
        head, self._rest = split_template(template)
        self._frame = ChatFrame(tokenizer, head)
        self.prefix = self._frame.prefix
        if not self.prefix:
            raise UsageError("the template begins with a slot: begin it with a word, such as `Evidence:`")

    def beside(self, template: str) -> "PromptBuilder":
        """Prompts of another template, with as much room for evidence: a longer prefix takes none of it."""
        other = PromptBuilder(self.tokenizer, template, self.max_tokens)
        other.max_tokens += max(0, len(other.prefix) - len(self.prefix))
        return other

    def _suffix(self, question: str, chunks: list[dict]) -> list[int]:
        text = fill_template(self._rest, evidence=render_evidence(chunks), question=question)
        return self._frame.encode(text)

    def build(self, sample: dict) -> Prompt:
        """The prompt of a sample. DataError if the question and one word of evidence do not fit."""
        question = sample["question"]
        chunks = sample["evidence_chunks"]
        # Most samples fit, and are encoded only once.
        suffix = self._suffix(question, chunks)
        budget = self.max_tokens - len(self.prefix)
        if len(suffix) <= budget:
            return Prompt(self.prefix, suffix, list(range(len(chunks))), list(chunks))

        shown, kept = cut_evidence(question, chunks, lambda kept: len(self._suffix(question, kept)), budget)
        suffix = self._suffix(question, kept)
        if len(suffix) > budget:
            n_needed = len(self.prefix) + len(suffix)
            raise DataError(
                f"{sample['id']}: the question plus one word of evidence takes {n_needed} tokens, over the "
                f"limit of {self.max_tokens}; raise max_seq_length or --max-input-tokens"
            )
        return Prompt(self.prefix, suffix, shown, kept)


class JudgePrompts:
    """Builds judge prompts of one template as token ids."""

    def __init__(self, tokenizer, template: str):
        self.tokenizer = tokenizer
        head, self._rest = split_template(template)
        self._frame = ChatFrame(tokenizer, head, thinks=False)

    def build(self, chunks: list[dict], question: str, answer_a: str, answer_b: str) -> list[int]:
        """Token ids of the prompt that compares completion A with completion B."""
        slots = {"question": question, "answer_a": answer_a, "answer_b": answer_b}
        text = fill_template(self._rest, evidence=render_evidence(chunks), **slots)
        return self._frame.prefix + self._frame.encode(text)


# --- the run


def save(args: argparse.Namespace) -> None:
    folder = home_path(args.prompts_dir)
    names = [*shipped_files(), "output_schema.json", "config.yaml"]
    if args.dry_run:
        print(f"would write to {folder}, templates only where they are missing: {', '.join(names)}")
        if edited := edited_files(folder):
            note(f"edited, so replaced only with --overwrite: {', '.join(edited)}")
        return
    check_folder_output(folder)
    # A second run takes a moment too, so it waits.
    with cache_lock(folder):
        written = save_prompts(folder, args.overwrite)
        # The manifest lists every file of the folder, and is written last.
        write_json(folder / "run.json", describe_run({"files": names}, {}, None) | {"status": "complete"})
    n_kept = len(names) - len(written)
    print(
        f"wrote {len(written)} files to {folder}: {', '.join(written)}; {n_kept} templates were there already"
    )
    note(f"next: {train_command()}")
    # Imported here: other scripts import this one for its prompts alone, and a copy of it elsewhere has no
    # report.
    with contextlib.suppress(ModuleNotFoundError):
        from reporting.pipeline import refresh_report

        refresh_report()


def test(args: argparse.Namespace) -> None:
    if failures := failing_cases():
        raise StageError(
            "\n".join([f"{len(failures)} of {len(SELF_CHECK)} validator cases fail:", *failures])
        )
    print(f"validator: {len(SELF_CHECK)} of {len(SELF_CHECK)} cases pass")


def render(args: argparse.Namespace) -> None:
    template = without_turns(load_template("sft", args.template, args.prompts_dir))
    for sample in read_samples(input_path(args.data_path))[: args.limit]:
        chunks = sample["evidence_chunks"]
        print(fill_template(template, evidence=render_evidence(chunks), question=sample["question"]))
        print(f"\n--- gold completion: {gold_completion(sample, list(range(len(chunks))))}\n")


def judge(args: argparse.Namespace) -> None:
    template = load_template("judge", args.template, args.prompts_dir)
    sample = read_samples(input_path(args.data_path))[0]
    evidence = render_evidence(sample["evidence_chunks"])
    answers = {"answer_a": args.answer_a, "answer_b": args.answer_b}
    print(fill_template(template, evidence=evidence, question=sample["question"], **answers))


def parse(args: argparse.Namespace) -> None:
    if sys.stdin is None:
        raise DataError("stdin is closed; pipe a completion into the command (--help shows how)")
    try:
        text = sys.stdin.read()
    except UnicodeDecodeError as error:
        raise DataError(f"stdin: not UTF-8 ({error.reason}); convert the completion to UTF-8") from error
    parsed = parse_completion(text, args.n_chunks, args.strict)
    names = ("answer", "citations", "confidence", "is_refusal", "is_valid", "repaired", "errors")
    fields = {name: getattr(parsed, name) for name in names}
    print(json.dumps(fields, ensure_ascii=False, indent=2))


COMMANDS = {"save": save, "test": test, "render": render, "judge": judge, "parse": parse}


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    COMMANDS[args.command](args)


if __name__ == "__main__":
    run_main(main)
