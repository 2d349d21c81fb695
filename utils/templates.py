"""Prompt templates as text: the shipped ones, loading one by name, filling its slots.

The files in prompts/ are read at import. This module knows slots, not tokens: `prompt_schema.py` builds
prompts.
"""

import itertools
import re
from pathlib import Path

from utils.config import input_path, nearest
from utils.errors import UsageError
from utils.jsonl import sha256_value

SHIPPED_DIR = Path(__file__).resolve().parent.parent / "prompts"


def read_template(path: Path) -> str:
    """The template in a file. One final newline belongs to the file and not to the template."""
    try:
        return path.read_text(encoding="utf-8-sig").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 ({error.reason}); save the template as UTF-8 text") from error


# In most SFT templates the question comes before the evidence and again after it. Each chunk is then read
# with the question in mind, which a causal model cannot do otherwise ("query-aware contextualization", Liu et
# al., 2023). In sft_evidence_first.txt it comes once, at the end: prompts with the same evidence begin alike,
# so that it can be read once for all of them (training/shared_evidence.py). sft_brief.txt is that in half as
# many words, for models that learn the task anyway. <<...>> in sft_fewshot.txt is the assistant's turn of a
# chat model, and plain text for a base model. In one user turn a small model repeats an example instead of
# following it (docs/log.md).
SFT_NAMES = ("default", "structured", "fewshot", "evidence_first", "brief")
JUDGE_NAMES = ("default", "simple")
SFT_TEMPLATES = {name: read_template(SHIPPED_DIR / f"sft_{name}.txt") for name in SFT_NAMES}
JUDGE_TEMPLATES = {name: read_template(SHIPPED_DIR / f"judge_{name}.txt") for name in JUDGE_NAMES}
TEMPLATES = {"sft": SFT_TEMPLATES, "judge": JUDGE_TEMPLATES}
# The slots that a template of a kind must contain beside {evidence}, and the kind in a message.
SLOTS = {"sft": ["{question}"], "judge": ["{question}", "{answer_a}", "{answer_b}"]}
_ALL_SLOTS = sorted({"{evidence}", *itertools.chain(*SLOTS.values())})
_KIND_IN_WORDS = {"sft": "an SFT", "judge": "a judge"}


def shipped_files() -> dict[str, str]:
    """The shipped templates by file name."""
    files = {}
    for kind, templates in TEMPLATES.items():
        for name, text in templates.items():
            files[f"{kind}_{name}.txt"] = text
    return files


def edited_files(prompts_dir: Path) -> list[str]:
    """Names of the files in `prompts_dir` whose template differs from the shipped one."""
    edited = []
    for name, text in shipped_files().items():
        path = prompts_dir / name
        if path.is_file() and read_template(path) != text:
            edited.append(name)
    return edited


def load_template(kind: str, name: str, prompts_dir: str | Path = "prompts") -> str:
    """Template text of kind "sft" or "judge": from `prompts_dir` if that folder exists, else the shipped one.

    UsageError if there is none of that name, or if a slot is missing.
    """
    folder = input_path(prompts_dir)
    path = folder / f"{kind}_{name}.txt"
    if folder.is_file():
        raise UsageError(f"{folder}: is a file; name the folder of the templates, such as prompts")
    if path.is_file():
        text = read_template(path)
    elif name in TEMPLATES[kind] and not folder.is_dir():
        text = TEMPLATES[kind][name]
    else:
        # A folder that lacks the file is no reason to use the shipped template: the user may have meant
        # another name.
        present = {file.stem.removeprefix(f"{kind}_") for file in folder.glob(f"{kind}_*.txt")}
        remedy = nearest(name, present or TEMPLATES[kind])
        if folder.is_dir() and not present and name in TEMPLATES[kind]:
            remedy = f"; prompt_schema.py save --prompts-dir {prompts_dir} writes those that the folder lacks"
        raise UsageError(f"no {kind} template {name!r} in {folder}{remedy}")

    # Evidence is most of a prompt, so it appears once; the question may be repeated.
    slots = SLOTS[kind]
    if any(slot not in text for slot in slots) or text.count("{evidence}") != 1:
        needed = f"{', '.join(slots)} and exactly one {{evidence}}"
        raise UsageError(f"{path}: {_KIND_IN_WORDS[kind]} template must contain {needed}")
    return text


def template_hash(text: str) -> str:
    """The hash that a run's manifest records, so that a checkpoint names the template it was trained with."""
    return sha256_value(text)[:12]


def split_template(template: str) -> tuple[str, str]:
    """The constant head of a template, which all its prompts share, and the rest from the first slot on."""
    start = min(template.index(slot) for slot in _ALL_SLOTS if slot in template)
    return template[:start], template[start:]


def fill_template(template: str, **values: str) -> str:
    """The template with its named slots filled. One pass, so a slot name inside a value stays text."""
    slots = "|".join(re.escape("{" + name + "}") for name in values)
    return re.sub(slots, lambda slot: values[slot.group()[1:-1]], template)
