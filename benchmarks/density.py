"""How dense the code is: what is packed into one line, and how often a comment explains.

Counts per 1,000 lines that are not blank, for each package and for the whole tree:

    python benchmarks/density.py
    python benchmarks/density.py --list

`--list` names each place. The script reads source text only; it knows nothing about what the code does.
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
MAX_SCRIPT_LINES = 300

# The packages whose modules have a length limit; tests, benchmarks and data have none.
PACKAGES = {
    *("utils", "evidence", "models", "sources", "generation"),
    *("evaluation", "perturbations", "training", "preferences"),
}

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# What the table shows as a rate per 1,000 lines, with the most (or, for comments, the least) that is accepted.
RATES = {
    "packed assignments": 5.0,
    "nested comprehensions": 0.5,
    "nested conditionals": 0.5,
    "wide lines": 0.0,
    "comment lines": 45.0,
}


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


def contains(node: ast.AST, kinds: type | tuple[type, ...]) -> bool:
    """True when a descendant of `node`, other than itself, is of one of the kinds."""
    return any(isinstance(inner, kinds) for inner in ast.walk(node) if inner is not node)


def is_packed(node: ast.AST) -> bool:
    """`a, b = x, y`: several assignments in one statement. Unpacking one value (`a, b = pair`) is not."""
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Tuple)
        and isinstance(node.value, ast.Tuple)
    )


def n_parameters(function: ast.FunctionDef) -> int:
    arguments = function.args
    names = [argument.arg for argument in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
    return len([name for name in names if name not in ("self", "cls")])


def measure_nodes(tree: ast.AST, path: Path, density: Density) -> None:
    for node in ast.walk(tree):
        if is_packed(node):
            density.add("packed assignments", path, node.lineno)
        if isinstance(node, COMPREHENSIONS) and contains(node, COMPREHENSIONS):
            density.add("nested comprehensions", path, node.lineno)
        if isinstance(node, ast.IfExp) and contains(node, ast.IfExp):
            density.add("nested conditionals", path, node.lineno)
        if isinstance(node, FUNCTIONS):
            if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES:
                density.add("long functions", path, node.lineno)
            if n_parameters(node) > MAX_PARAMETERS:
                density.add("many parameters", path, node.lineno)


def measure(path: Path) -> Density:
    """The density of one Python file."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    density = Density(n_lines=sum(1 for line in lines if line.strip()))
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_COLUMNS:
            density.add("wide lines", path, number)
        # A comment counts where it has a line to itself; those at the end of a line are mostly labels.
        if line.strip().startswith("#"):
            density.counts["comment lines"] += 1
    limit = MAX_SCRIPT_LINES if path.parent == ROOT else MAX_MODULE_LINES
    is_shipped = (
        path.parent == ROOT or (path.parent / "__init__.py").is_file() and path.parent.name != "tests"
    )
    if is_shipped and len(lines) > limit:
        density.add("long files", path, len(lines))
    measure_nodes(ast.parse(text), path, density)
    return density


def tracked_files() -> list[Path]:
    """Python files that git knows or would add: no caches, no environments."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return [ROOT / name for name in sorted(listed) if (ROOT / name).is_file()]


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="name each place that is counted")
    args = parser.parse_args()
    by_package = measure_tree()
    if args.list:
        print("\n".join(by_package["all"].places))
    others = ("long functions", "many parameters", "long files")
    print(f"{'':14s} lines  " + "  ".join([*RATES, *others]))
    for package in sorted(by_package):
        density = by_package[package]
        cells = [f"{density.rate(kind):{len(kind)}.1f}" for kind in RATES]
        cells += [f"{density.counts[kind]:{len(kind)}d}" for kind in others]
        print(f"{package:14s} {density.n_lines:5d}  " + "  ".join(cells))
    print("rates per 1,000 lines that are not blank; the last three are counts")


if __name__ == "__main__":
    main()
