"""The commands that README.md and docs/ print, and by which rule each is tried: run, planned or parsed.

    python -m tests.printed_commands      # prints each command with its rule

It decides from the command alone, so a new command on a page is covered without a list. It runs nothing.
"""

import itertools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.documents import ROOT, tracked_files
from tests.finished_demo import TEST_ROWS

HISTORY = "docs/log.md"
# The first word of a line of a page that is a command, and not output or a row of a file.
PROGRAMS = "python|python3|cat|export|source|make|git|pip|accelerate|hf|\\.venv/bin/\\S+"
BLOCK_LINE = re.compile(rf"^    (?:- )?((?:{PROGRAMS}) .*)$", re.MULTILINE)
INLINE = re.compile(r"`((?:python|make) [^`]+)`")

# What a model may be here: the embedded one, or one that the demo made.
HERE = re.compile(r"embedded$|checkpoints/sft/demo/|demo/checkpoints/|merged")
# As many samples as the finished demo was evaluated on, which --predictions needs all of.
SMALL_LIMIT = f"--limit {TEST_ROWS}"
SMALL_COMPLETIONS = "--max-new-tokens 12"
# Each suite has several levels of every sample.
SMALL_SUITE = "--suite order"
MODEL_FLAGS = {"--model-path", "--base-model", "--judge-model", "--sft-model", "--model"}
MODEL_KEYS = ("model_name", "base_model")


@dataclass(frozen=True)
class Command:
    """A printed command, the page it is on, and the variables that the page has exported before it."""

    page: str
    text: str
    exports: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def pages() -> list[str]:
    docs = [name for name in tracked_files() if name.startswith("docs/") and name.endswith(".md")]
    return ["README.md", "data/README.md", *[name for name in docs if name != HISTORY]]


def commands_of(page: str) -> list[Command]:
    """The commands of a page in order, each once; `export` lines apply to those behind them."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / page).read_text(encoding="utf-8"))
    found = [(match.start(), match[1]) for match in BLOCK_LINE.finditer(text)]
    found += [(match.start(), match[1]) for match in INLINE.finditer(text)]
    exports: list[str] = []
    commands: dict[str, Command] = {}
    for _, line in sorted(found):
        if line.startswith("export "):
            exports.append(line)
        commands.setdefault(line, Command(page, line.strip(), tuple(exports)))
    return list(commands.values())


# --- what a command needs


def value_of(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1] if flag in words[:-1] else ""


def config_of(words: list[str]) -> dict:
    """The YAML of -c or --sources-config with the values of --set; empty without one."""
    path = value_of(words, "-c") or value_of(words, "--sources-config")
    if not path or not (ROOT / path).is_file():
        return {}
    config = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    for override in (word for before, word in zip(words, words[1:]) if before == "--set"):
        key, _, value = override.partition("=")
        config[key] = value
    return config


def models_of(words: list[str]) -> list[str]:
    """The models that a command names, in flags, in its config or in --set."""
    config = config_of(words)
    named = [value_of(words, flag) for flag in sorted(MODEL_FLAGS)]
    named += [str(config.get(key, "")) for key in MODEL_KEYS]
    return [name for name in named if name]


def is_download(words: list[str]) -> bool:
    """True for a build of sources that a url gives."""
    if "build_data.py" not in words or {"--sample", "--check"} & set(words):
        return False
    path = value_of(words, "--sources-config") or "configs/sources.yaml"
    return "url:" in (ROOT / path).read_text(encoding="utf-8")


def is_training(words: list[str]) -> bool:
    return bool({"train_sft.py", "train_dpo.py"} & set(words)) and "--merge" not in words


def demo_commands(target: str) -> list[str]:
    """The commands of `make demo`, `make demo-gemma` or `make loop`, with their variables filled in."""
    prefix = "LOOP" if target == "loop" else "DEMO"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    variables = dict(re.findall(rf"^(?:{target}: )?(\w+) := (.*)$", makefile, re.MULTILINE))
    commands = []
    for line in re.findall(rf"^\t\$\({prefix}\) (.*)$", makefile, re.MULTILINE):
        filled = re.sub(r"\$\((\w+)\)", lambda name: variables[name[1]], line)
        commands.append(f"python {filled}")
    return commands


def is_in_demo(words: list[str]) -> bool:
    """True for a command of `make demo` or `make loop`, which run it at full size."""
    commands = [*demo_commands("demo"), *demo_commands("loop")]
    return f"python {shlex.join(words[1:])}" in commands


def generates(words: list[str]) -> bool:
    """True for a command that lets a model answer many samples."""
    if {"--predictions", "--compare", "--export"} & set(words):
        return False
    return bool({"evaluate_sft_fast_robust.py", "robustness.py", "make_prefs.py"} & set(words))


def files_of_reader(words: list[str]) -> list[str]:
    """The files of --evidence and --import that are not in the repository: those of the reader."""
    named: list[str] = []
    for flag in {"--evidence", "--import"} & set(words):
        behind = words[words.index(flag) + 1 :]
        named += itertools.takewhile(lambda word: not word.startswith("--"), behind)
    return [name for name in named if name != "-" and not (ROOT / name).exists()]


def is_sample_builder(words: list[str]) -> bool:
    return any(word.startswith("data/sample/") and word.endswith(".py") for word in words)


def is_speed_benchmark(words: list[str]) -> bool:
    """True for a benchmark that repeats its measurement, or has minutes for it: --rounds or --budget."""
    script = Path(words[1]) if len(words) > 1 else Path()
    if script.parent.name != "benchmarks":
        return False
    text = (ROOT / script).read_text(encoding="utf-8")
    return '"--rounds"' in text or '"--budget"' in text


def small_text(command: Command) -> str:
    """The command with flags behind it that make it small; the last of a repeated flag counts."""
    words = command.words
    flags = [SMALL_LIMIT]
    if generates(words):
        flags.append(SMALL_COMPLETIONS)
    if "robustness.py" in words:
        flags.append(SMALL_SUITE)
    return " ".join([command.text, *flags])


# --- the rules, the first that fits


def rule_for(command: Command) -> tuple[str, str]:
    """(how the command is tried, why so).

    "run": as printed, in a finished demo. "small": as `small_text` makes it. "plan": with --dry-run, or
    `make -n`. "parse": its flags are parsed, or the files that it names looked up.
    """
    words = command.words
    program = words[0]
    if program in ("export", "source"):
        return "run", "sets up the shell"
    if program == "git":
        return "run", "clones this checkout in place of the address"
    if program == "make":
        return "plan", "would install packages, and run for minutes"
    if program in ("pip", "python3") or program.endswith("/pip"):
        return "parse", "needs the package index"
    if program == "hf":
        return "parse", "needs an account"
    if program == "accelerate":
        return "parse", "needs several GPUs"
    if re.search(r"<\w+>|\b[A-Z]{3,}\b", command.text):
        return "parse", "has a placeholder"
    if files := files_of_reader(words):
        return "parse", f"reads {files[0]}, a file of the reader's own"
    if "--web" in words:
        return "parse", "serves until it is stopped"
    if value_of(words, "--decisions") == "fitted":
        return "parse", "needs a checkpoint with fitted decisions; --calibrate is planned alone"
    if "questions.txt" in command.text:
        return "plan", "asks many questions"
    if is_sample_builder(words):
        return "parse", "writes the bundled sample, which tests/test_sample.py checks"
    if is_in_demo(words):
        return "plan", "make runs it"
    if is_speed_benchmark(words):
        return "parse", "measures speed for minutes"
    if is_download(words):
        return "plan", "downloads"
    if away := [name for name in models_of(words) if not HERE.search(name)]:
        # A plan needs the checkpoint too, unless the base model beside it is away as well.
        is_trained_here = all(name.startswith("checkpoints/") for name in away)
        return "parse" if is_trained_here else "plan", f"needs {away[0]}"
    if is_training(words):
        return "plan", "trains for minutes"
    if "--merge" in words:
        return "plan", "compares the answers of two models for minutes"
    if value_of(words, "--judge") == "citations" or "--gold-chosen" in words:
        return "plan", "judges candidates that the reader has generated"
    if generates(words):
        return "small", "generates for minutes"
    if "--predictions" in words:
        return "small", "scores the few completions that the finished demo has"
    return "run", "works offline in the finished demo"


def main() -> None:
    for page in pages():
        for command in commands_of(page):
            how, reason = rule_for(command)
            print(f"{page}: {how} ({reason}): {command.text}")


if __name__ == "__main__":
    main()
