"""What the model cards of all stages share: a header that the hub can read, tables, and Python as text.

The header is made by huggingface_hub. This module knows no stage.
"""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from utils.hub_names import EMBEDDED_IDS, Licence
from utils.templates import split_template
from utils.terminal import literal
from utils.tokens import ChatFrame, encodes_whole, end_id

TAGS = ("grounded-question-answering", "citations", "refusal")
# What the hub calls the data of this project, which is built anew by every user.
_DATASET_TYPE = "factuality-slice"


@dataclass(frozen=True)
class Measured:
    """Metrics on one split: name -> value, and the number of samples."""

    split: str
    n_samples: int | None
    metrics: dict[str, float | None]

    @property
    def known(self) -> dict[str, float]:
        return {name: value for name, value in self.metrics.items() if isinstance(value, (int, float))}


@dataclass(frozen=True)
class Header:
    """The facts of a card's header."""

    title: str
    licence: Licence
    library: str
    pipeline: str
    base: str | None
    tags: list[str]
    datasets: list[str]
    measured: list[Measured] = field(default_factory=list)


def card_header(header: Header) -> str:
    """The YAML block at the top of a model card, between its dashes."""
    # Half a second, which a stage that writes no card need not wait for.
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for measured in header.measured:
        for name, value in measured.known.items():
            result = EvalResult(
                task_type="text-generation",
                task_name="Question answering from evidence",
                dataset_type=_DATASET_TYPE,
                dataset_name=f"{measured.split} split",
                dataset_split=measured.split,
                metric_type=name,
                metric_value=round(value, 4),
            )
            results.append(result)
    data = ModelCardData(
        license=header.licence.id,
        license_name=header.licence.name,
        license_link=header.licence.link,
        library_name=header.library,
        pipeline_tag=header.pipeline,
        base_model=header.base,
        tags=header.tags,
        datasets=header.datasets or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=header.title if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def described_base(base: str, hub_base: str | None, revision: str | None) -> str:
    """A base model in words, with the commit of one from the hub."""
    if base in EMBEDDED_IDS:
        return f"{hub_base}, unpacked from 4-bit weights: on the original weights figures differ slightly"
    if hub_base and revision:
        return f"{hub_base} at commit {revision}"
    return hub_base or f"{Path(base).name}, a local model"


def base_arguments(is_on_hub: bool, revision: str | None) -> str:
    """What the code of a card hands to `from_pretrained` for its BASE: a hub id always with its commit."""
    return f'BASE, revision="{revision}"' if is_on_hub and revision else "BASE"


def metric_rows(measured: Iterable[Measured]) -> str:
    """A table of metrics, one row per split and metric; a line in its place without any."""
    rows = ["| split | samples | metric | value |", "|---|---|---|---|"]
    for part in measured:
        start = f"| {part.split} | {'' if part.n_samples is None else part.n_samples}"
        rows += [f"{start} | {name} | {value:.3f} |" for name, value in part.known.items()]
    return "\n".join(rows) if len(rows) > 2 else "None was measured for this checkpoint."


def cell(text: str) -> str:
    """A text of others in a cell of a Markdown table: no markup, no column and no row of its own."""
    escaped = html.escape(" ".join(literal(text).split()), quote=False)
    return re.sub(r"([\\|`\[\]])", r"\\\1", escaped)


def licence_rows(sources: dict[str, dict]) -> str:
    """A table of sources with their number of rows and licence, and what the licences ask for."""
    rows = []
    for name, about in sources.items():
        rows.append(f"| {cell(name)} | {about['n']} | {cell(about['licence'])} |")
    if any("BY-SA" in about["licence"] for about in sources.values()):
        rows += ["", "CC BY-SA texts: keep their attribution with what you build from them."]
    return "\n".join(rows)


def as_literal(text: str) -> str:
    """A text as a Python expression, one line of code per line of text."""
    lines = text.splitlines(keepends=True)
    if len(lines) < 2:
        return repr(text)
    return "(\n" + "".join(f"    {line!r}\n" for line in lines) + ")"


def prompt_code(tokenizer, template: str) -> str:
    """Python that sets HEAD, REST and END: a prompt's text before the question, with the slots, and after."""
    head, rest = split_template(template)
    frame = ChatFrame(tokenizer, head)
    prefix = frame.prefix[frame.n_bos :]
    parts = {
        "HEAD": tokenizer.decode(prefix) + frame.lead,
        "REST": frame.shown(rest),
        "END": frame.closing_text,
    }
    return "\n".join(f"{name} = {as_literal(text)}" for name, text in parts.items())


def end_code(tokenizer) -> str:
    """Python for the id of the token that ends a completion."""
    if end_id(tokenizer) == tokenizer.eos_token_id:
        return "tokenizer.eos_token_id"
    return f"tokenizer.convert_tokens_to_ids({tokenizer.convert_ids_to_tokens(end_id(tokenizer))!r})"


# Any evidence will do; this one has a chunk that answers and one that does not.
_EXAMPLE = """question = "When did the Harbour Museum open?"
chunks = [
    ("Old Town Theatre", "The theatre was rebuilt after the fire of 1904."),
    ("Harbour Museum", "The Harbour Museum opened in 1931 in a former rope works."),
]
evidence = "\\n".join(f"[{i}] {title}: {text} [{i}]" for i, (title, text) in enumerate(chunks))
rest = REST.replace("{evidence}", evidence).replace("{question}", question)
"""
# As `utils/tokens.py` encodes prompts for most tokenizers, and for those that put a space before every text.
_IN_PIECES = """ids += tokenizer(HEAD, add_special_tokens=False)["input_ids"]
# Control tokens in evidence or question stay text.
ids += tokenizer(rest, add_special_tokens=False, split_special_tokens=True)["input_ids"]
ids += tokenizer(END, add_special_tokens=False)["input_ids"]"""
_AS_A_WHOLE = """ids += tokenizer(HEAD + rest + END, add_special_tokens=False)["input_ids"]"""


def example_code(tokenizer) -> str:
    """Python that sets `ids`, the tokens of a prompt with a question and two chunks."""
    start = "ids = [tokenizer.bos_token_id]\n" if ChatFrame(tokenizer, "").n_bos else "ids = []\n"
    return _EXAMPLE + start + (_AS_A_WHOLE if encodes_whole(tokenizer) else _IN_PIECES)
