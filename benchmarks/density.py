"""How dense the code is: how much is packed into one line, and how often a comment explains.

Prints occurrences per 1,000 lines that are not blank, for each package and for the whole tree:

    python benchmarks/density.py
    python benchmarks/density.py --list

`--list` names each place. tests/test_density.py holds the limits. The script reads source text only; it knows
nothing about what the code does.
"""

import argparse
import ast
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MAX_COLUMNS = 110
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 6
MAX_MODULE_LINES = 220
# A script is read from top to bottom as one stage, so it may be longer than a module.
MAX_SCRIPT_LINES = 300

# The packages whose modules have a length limit; tests, benchmarks and data have none.
PACKAGES = {
    *("utils", "evidence", "models", "sources", "generation"),
    *("evaluation", "perturbations", "training", "preferences", "reporting", "asking"),
}

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# Occurrences per 1,000 lines, each with its limit: the highest rate accepted, for comment lines the lowest.
# The limits come from codebases that are known to read well, measured in the same way.
RATES = {
    "packed assignments": 5.0,
    "nested comprehensions": 0.5,
    "nested conditionals": 0.5,
    "wide lines": 0.0,
    "comment lines": 45.0,
}

# Counted, not rated: none of these is accepted.
LIMITS = ("long functions", "many parameters", "long files")


@dataclass
class Density:
    """Counts of one file or of many, and the places behind them."""

    n_lines: int = 0
    counts: Counter = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)

    def add(self, kind: str, path: Path, line: int) -> None:
        self.counts[kind] += 1
        self.places.append(f"{path.relative_to(ROOT)}:{line}: {kind}")

    def merge(self, other: "Density") -> None:
        self.n_lines += other.n_lines
        self.counts += other.counts
        self.places += other.places

    def rate(self, kind: str) -> float:
        """Occurrences per 1,000 lines that are not blank."""
        return 1000 * self.counts[kind] / max(self.n_lines, 1)


# --- what one statement or expression packs


def contains(node: ast.AST, kinds: type | tuple[type, ...]) -> bool:
    """True when a descendant of `node`, other than itself, is of one of the kinds."""
    return any(isinstance(inner, kinds) for inner in ast.walk(node) if inner is not node)


def is_packed(node: ast.AST) -> bool:
    """`a, b = x, y`: several assignments in one statement. Unpacking one value (`a, b = pair`) is not."""
    if not isinstance(node, ast.Assign):
        return False
    return isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


def n_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters that a caller chooses: keyword-only ones count, `self` and `cls` do not."""
    arguments = function.args
    names = [argument.arg for argument in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
    return len([name for name in names if name not in ("self", "cls")])


def measure_function(function: ast.FunctionDef | ast.AsyncFunctionDef, path: Path, density: Density) -> None:
    # `lineno` is that of `def`: decorators above it do not count.
    last_line = function.end_lineno or function.lineno
    if last_line - function.lineno + 1 > MAX_FUNCTION_LINES:
        density.add("long functions", path, function.lineno)
    if n_parameters(function) > MAX_PARAMETERS:
        density.add("many parameters", path, function.lineno)


def measure_nodes(tree: ast.AST, path: Path, density: Density) -> None:
    # `ast.walk` visits the inner nodes too, so three levels of nesting count twice.
    for node in ast.walk(tree):
        if is_packed(node):
            density.add("packed assignments", path, node.lineno)
        if isinstance(node, COMPREHENSIONS) and contains(node, COMPREHENSIONS):
            density.add("nested comprehensions", path, node.lineno)
        if isinstance(node, ast.IfExp) and contains(node, ast.IfExp):
            density.add("nested conditionals", path, node.lineno)
        if isinstance(node, FUNCTIONS):
            measure_function(node, path, density)


# --- one file, and the tree


def max_lines(path: Path) -> int | None:
    """The length limit of a file: scripts and package modules have one."""
    if path.parent == ROOT:
        return MAX_SCRIPT_LINES
    if path.relative_to(ROOT).parts[0] in PACKAGES:
        return MAX_MODULE_LINES
    return None


def measure(path: Path) -> Density:
    """The density of one Python file."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    density = Density(n_lines=sum(1 for line in lines if line.strip()))
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_COLUMNS:
            density.add("wide lines", path, number)
        # Only a comment on a line to itself counts: one at the end of a line is mostly a label.
        if line.strip().startswith("#"):
            density.counts["comment lines"] += 1
    limit = max_lines(path)
    if limit is not None and len(lines) > limit:
        density.add("long files", path, len(lines))
    measure_nodes(ast.parse(text), path, density)
    return density


def tracked_files() -> list[Path]:
    """Python files that git knows or would add: no caches, no environments."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [ROOT / name for name in sorted(listed.stdout.split())]
    # A deleted file stays in git's list until the deletion is added.
    return [path for path in paths if path.is_file()]


def measure_tree() -> dict[str, Density]:
    """Density by package; `scripts` are the files of the top folder, `all` is the whole tree."""
    by_package: dict[str, Density] = {}
    for path in tracked_files():
        parts = path.relative_to(ROOT).parts
        package = parts[0] if len(parts) > 1 else "scripts"
        density = measure(path)
        by_package.setdefault(package, Density()).merge(density)
        by_package.setdefault("all", Density()).merge(density)
    return by_package


# --- the run


def print_table(by_package: dict[str, Density]) -> None:
    print(f"{'':14s} lines  " + "  ".join([*RATES, *LIMITS]))
    for package in sorted(by_package):
        density = by_package[package]
        cells = [f"{density.rate(kind):{len(kind)}.1f}" for kind in RATES]
        cells += [f"{density.counts[kind]:{len(kind)}d}" for kind in LIMITS]
        print(f"{package:14s} {density.n_lines:5d}  " + "  ".join(cells))
    print("rates per 1,000 lines that are not blank; the last three are counts")


def main() -> None:
    # The raw formatter keeps the example commands of the docstring on lines of their own.
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--list", action="store_true", help="name each place that is counted")
    args = parser.parse_args()
    by_package = measure_tree()
    if args.list:
        print("\n".join(by_package["all"].places))
    print_table(by_package)


if __name__ == "__main__":
    main()
