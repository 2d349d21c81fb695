"""Flags and names that decide how a model is loaded. No model library is imported, so that a parser can show
them at once.
"""

import argparse
import functools
import importlib.util
from dataclasses import dataclass

from utils.arguments import bucket_list
from utils.decisions import DECISIONS
from utils.errors import StageError, UsageError
from utils.launch import process_count
from utils.runs import note

# What --attn-impl takes; `choose_attention` in models/hardware.py says what each becomes.
ATTENTION_FLAGS = ("auto", "eager", "sdpa", "flash2", "flash_attention_2", "flex")
# The names of transformers for the short flags.
ATTENTION_NAMES = {"flash2": "flash_attention_2", "flex": "flex_attention"}
# What generates completions.
ENGINES = ("ours", "vllm")
# What settings mean that do not name these flags, as those of versions without them.
UNNAMED_SETTINGS = {"engine": "ours", "decisions": "plain"}
# Flags of our engine, and what vLLM does instead.
_OURS_ALONE = {
    "use_4bit": "it loads weights in 16 bits",
    "use_8bit": "it loads weights in 16 bits",
    "attn_impl": "it chooses its own attention",
    "decisions": "it adds no biases at one position",
}
# The limit of vLLM 0.33; earlier versions have none.
_MAX_TEMPERATURE = 2.0


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded; the defaults are those of evaluation."""

    bf16: bool = True
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    attention: str = "auto"
    trust_remote_code: bool = False
    # False: the model stays in main memory, from which FSDP moves it to the devices layer by layer.
    place: bool = True
    # True: the passes will run in half precision, whatever the precision of the weights.
    autocast: bool = False
    # Where the base of a PEFT checkpoint is now; None: where the checkpoint says.
    base_model: str | None = None
    # What generates, and the longest prompt with its completion in tokens, for which vLLM reserves memory.
    engine: str = "ours"
    max_length: int | None = None


def add_attention_flag(parser: argparse._ActionsContainer, default: str | None = "auto") -> None:
    """`--attn-impl`; with the default None, a flag that was not given can be told from `auto`."""
    text = "attention implementation; falls back, with a note, if it is not available"
    parser.add_argument("--attn-impl", default=default, choices=ATTENTION_FLAGS, help=text)


def add_bit_flags(
    parser: argparse._ActionsContainer, models: str, prefix: str = "--use", default: bool | None = False
) -> None:
    """`--use-4bit` and `--use-8bit`, of which one can be given; `models` says in the help what they load."""
    either = parser.add_mutually_exclusive_group()
    for bits in (4, 8):
        text = f"load {models} in {bits} bits (bitsandbytes)"
        either.add_argument(f"{prefix}-{bits}bit", action="store_true", default=default, help=text)


def add_decisions_flag(parser: argparse._ActionsContainer) -> None:
    """`--decisions`; None is plain, as for `--engine`."""
    text = "refusals and verdicts: as the checkpoint has them, with fitted biases, or answers alone"
    parser.add_argument("--decisions", choices=DECISIONS, help=f"{text} (default: plain)")


def add_model_flags(
    parser: argparse._ActionsContainer, models: str = "the model", default: bool | None = False
) -> None:
    """The flags of every stage with generated answers: how models are loaded, `--engine` and `--decisions`.

    `default`: that of the bit flags; with None, a flag that was not given can be told.
    """
    add_attention_flag(parser)
    add_bit_flags(parser, models, default=default)
    engine = "what generates: ours, or vllm on a GPU, which sizes its batches itself (default: ours)"
    # None is ours: results of versions without the flag are still those of the same settings.
    parser.add_argument("--engine", choices=ENGINES, help=engine)
    add_decisions_flag(parser)


# What decided it: docs/gpu.md, "What --fast does".
FAST_NOTE = (
    "fast: on CPU and GPU alike drafts, shared prefixes and batches sorted by length are always on; "
    "nothing is compiled, so --fast and --buckets change nothing"
)


def add_fast_flags(parser: argparse._ActionsContainer) -> None:
    """`--fast` and `--buckets`, which older commands have; whoever gives them is told `FAST_NOTE`."""
    fast = "changes nothing: drafts and shared prefixes, which save the passes, are always on"
    parser.add_argument("--fast", action="store_true", help=fast)
    buckets = "changes nothing: no model is compiled for fixed lengths that prompts could be padded to"
    parser.add_argument("--buckets", type=bucket_list, metavar="N,N", help=buckets)


def check_engine(args: argparse.Namespace) -> None:
    """UsageError for flags that vLLM cannot follow; StageError with the command where it is not installed."""
    if args.engine != "vllm":
        return
    for name, instead in _OURS_ALONE.items():
        if getattr(args, name, None) not in (None, False, "auto", "plain"):
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"--engine vllm takes no {flag}: {instead}; leave {flag} out, or use --engine ours"
            )
    temperature = getattr(args, "temperature", None) or 0.0
    if temperature > _MAX_TEMPERATURE:
        raise UsageError(f"--temperature {temperature:g}: vLLM takes at most {_MAX_TEMPERATURE:g}; lower it")
    if process_count() > 1:
        raise UsageError("--engine vllm runs in one process; start the script without accelerate launch")
    if importlib.util.find_spec("vllm") is None:
        missing = "--engine vllm needs the package vllm; run `pip install -r requirements-vllm.txt`"
        if not args.dry_run:
            raise StageError(missing)
        _note_once(missing)


@functools.cache
def _note_once(text: str) -> None:
    """A note about a flag: a script reads its flags twice, before and after its imports."""
    note(text)


def load_options(
    args: argparse.Namespace,
    base_model: str | None = None,
    prefix: str = "",
    max_length: int | None = None,
) -> LoadOptions:
    """What the flags above ask for. `prefix`: that of the flags of another model, such as `judge_`."""
    # A judge is read and not decoded, which is our engine's alone.
    engine = getattr(args, "engine", None) if not prefix else None
    return LoadOptions(
        load_in_4bit=bool(getattr(args, f"{prefix}use_4bit")),
        load_in_8bit=bool(getattr(args, f"{prefix}use_8bit")),
        attention=args.attn_impl,
        base_model=base_model,
        engine=engine or "ours",
        max_length=max_length,
    )


def attention_settings(flag: str | None) -> dict[str, str]:
    """The part of a cache's settings that `--attn-impl` decides: another attention rounds otherwise."""
    # Without the flag nothing, so that caches of versions that did not have it keep their names.
    if flag is None or flag == "auto":
        return {}
    return {"attn_impl": ATTENTION_NAMES.get(flag, flag)}


def engine_settings(flag: str | None) -> dict[str, str]:
    """The part of a cache's settings that `--engine` decides; none for ours, as before there was a flag."""
    return {"engine": flag} if flag == "vllm" else {}
