"""Draws the picture in docs/architecture.md: stages with the files between them, and packages by import step.

Packages, their steps and their arrows are read from the import statements. Only the files that travel between
stages are listed here by hand, in FILES. The script imports nothing of the project, so it also draws a tree
that does not run.

    python docs/draw_architecture.py
    python docs/draw_architecture.py --check
"""

import argparse
import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/architecture.md"

# GitHub renders a fenced block of this language as a picture.
BLOCK = re.compile(r"```mermaid\n.*?```", re.DOTALL)

# Folders with an __init__.py that are not part of the toolkit.
NOT_DRAWN = {"tests", "benchmarks"}


@dataclass(frozen=True)
class DataFile:
    """A file or folder that one stage writes and others read; scripts are named without `.py`."""

    label: str
    writer: str | None
    readers: tuple[str, ...] = ()


SAMPLE_READERS = ("train_sft", "evaluate_sft_fast_robust", "robustness", "make_prefs", "train_dpo")
CHECKPOINT_READERS = ("evaluate_sft_fast_robust", "robustness", "make_prefs", "ask")
FILES = [
    DataFile("data/raw/", None, ("build_data",)),
    DataFile("data/processed/*.jsonl", "build_data", SAMPLE_READERS),
    DataFile("checkpoints/sft/", "train_sft", (*CHECKPOINT_READERS, "train_dpo")),
    DataFile("eval_results.json", "evaluate_sft_fast_robust"),
    DataFile("robustness.json", "robustness"),
    DataFile("prefs/preferences_*.jsonl", "make_prefs", ("train_rm", "train_dpo")),
    DataFile("checkpoints/rm/", "train_rm"),
    DataFile("checkpoints/policy/", "train_dpo", CHECKPOINT_READERS),
]


# --- what the code imports


def packages() -> list[str]:
    return sorted(
        path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name not in NOT_DRAWN
    )


def scripts() -> list[str]:
    return sorted(path.stem for path in ROOT.glob("*.py"))


def top_modules(path: Path) -> set[str]:
    """The first part of every module name that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def package_imports() -> dict[str, set[str]]:
    """Package -> the other packages that its modules import."""
    known = set(packages())
    imports = {}
    for package in sorted(known):
        modules = [top_modules(path) for path in sorted((ROOT / package).glob("*.py"))]
        imports[package] = set().union(*modules) & known - {package}
    return imports


def steps(imports: dict[str, set[str]]) -> dict[str, int]:
    """Package -> its step: 0 if it imports no other package, else one above the highest it imports."""
    step_of: dict[str, int] = {}
    while len(step_of) < len(imports):
        ready = [name for name in imports if name not in step_of and imports[name] <= step_of.keys()]
        if not ready:
            raise SystemExit(
                f"packages import each other in a circle: {sorted(imports.keys() - step_of.keys())}"
            )
        for name in ready:
            lower_steps = [step_of[lower] for lower in imports[name]]
            step_of[name] = 1 + max(lower_steps, default=-1)
    return step_of


# --- the picture


def stage_lines() -> list[str]:
    """The stages from left to right, each with the packages it imports, and the files between them."""
    lines = ["  subgraph stages [Stages and the files between them]", "    direction LR"]
    known = set(packages())
    for script in scripts():
        used = sorted(top_modules(ROOT / f"{script}.py") & known)
        lines.append(f'    {script}["<b>{script}.py</b><br/>{", ".join(used)}"]')
    for number, file in enumerate(FILES):
        lines.append(f'    file{number}[("{file.label}")]')
        if file.writer:
            lines.append(f"    {file.writer} --> file{number}")
        lines += [f"    file{number} --> {reader}" for reader in file.readers]
    # Whoever imports prompt_schema reads the templates through it.
    readers = [script for script in scripts() if "prompt_schema" in top_modules(ROOT / f"{script}.py")]
    lines.append('    templates[("prompts/*.txt")] --> prompt_schema')
    lines += [f"    prompt_schema -.-> {reader}" for reader in readers]
    return [*lines, "  end"]


def package_lines() -> list[str]:
    """One box per step, the highest first, with an arrow from each package to every package it imports."""
    imports = package_imports()
    step_of = steps(imports)
    lines = []
    for step in range(max(step_of.values()), -1, -1):
        lines.append(f"  subgraph step{step} [Step {step}]")
        lines += [f"    {package}" for package in sorted(step_of) if step_of[package] == step]
        lines.append("  end")
    for package in sorted(imports):
        lines += [f"  {package} --> {lower}" for lower in sorted(imports[package])]
    return lines


def picture() -> str:
    """The fenced Mermaid block, as it belongs into the page."""
    body = ["flowchart TB", *stage_lines(), *package_lines(), "  stages ~~~ step3"]
    return "\n".join(["```mermaid", *body, "```"])


# --- the run


def main() -> None:
    # The raw formatter keeps the example commands of the docstring on lines of their own.
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the picture is out of date"
    )
    args = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    # A function as the replacement: in a string, backslashes would be read as group references.
    redrawn = BLOCK.sub(lambda _: picture(), page)
    if redrawn == page:
        print(f"{PAGE.name}: the picture is current")
        return
    if args.check:
        sys.exit(f"{PAGE.name}: the picture is out of date; run `make docs`")
    PAGE.write_text(redrawn, encoding="utf-8")
    print(f"{PAGE.name}: redrawn")


if __name__ == "__main__":
    main()
