"""Do the tests pass with the oldest transformers and peft that are allowed, the pinned ones and the newest?

Prints a Markdown table with a row per set of versions, and exits with 1 if a test failed; docs/reference.md,
"Dependencies", has its last outcome.

    python -m benchmarks.versions
    python -m benchmarks.versions --sets oldest,newest --tests tests/test_models.py tests/test_generation.py

Without --tests it runs the tests of `make test-fast`; named files run whole. Each set has a virtual
environment of its own below .venv-versions/, which finds all but the two packages (and what pip replaces for
them) in the environment that runs this script: torch is there once. Needs the package index.
"""

import argparse
import re
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

PACKAGES = ("transformers", "peft")
SETS = ("oldest", "pinned", "newest")
FAST_TESTS = ["-m", "not slow"]
OUTCOMES = ("passed", "failed", "skipped")


def named_version(path: Path, package: str) -> str:
    """What a requirements file says behind a package's name, such as `>=5.23,<6`."""
    found = re.search(rf"^{package}([=<>].*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{path}: does not name {package}")
    return found[1].strip()


def requirements(versions: str) -> list[str]:
    """What pip is asked to install for one of SETS."""
    wanted = []
    for package in PACKAGES:
        if versions == "pinned":
            wanted.append(package + named_version(ROOT / "constraints.txt", package))
            continue
        allowed = named_version(ROOT / "requirements.txt", package)
        # == 5.23 is 5.23.0, which is the oldest that >= 5.23 allows.
        oldest = allowed.split(",")[0].replace(">=", "==")
        wanted.append(package + (oldest if versions == "oldest" else allowed))
    return wanted


def make_environment(folder: Path, versions: str) -> Path:
    """The interpreter of an environment with one of SETS, in front of the packages of this interpreter."""
    python = folder / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        packages = next(folder.glob("lib/python*/site-packages"))
        # Named in a .pth file, this interpreter's packages come behind the environment's own.
        own = sysconfig.get_paths()["purelib"]
        (packages / "behind.pth").write_text(f"{own}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", *requirements(versions)], check=True)
    return python


def installed(python: Path) -> list[str]:
    """The versions of PACKAGES that an interpreter imports."""
    code = f"import importlib.metadata as m; print(*[m.version(p) for p in {PACKAGES!r}])"
    output = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout
    return output.split()


def count_outcomes(output: str) -> Counter:
    """Outcome -> tests, from the last line of pytest; an error counts as failed."""
    counts: Counter = Counter()
    for number, outcome in re.findall(r"(\d+) (passed|failed|skipped|error)", output.strip().split("\n")[-1]):
        counts["failed" if outcome == "error" else outcome] += int(number)
    return counts


def run_tests(python: Path, tests: list[str], log: Path) -> tuple[Counter, float]:
    """(outcome -> tests, seconds); everything that pytest prints goes to `log`."""
    started = time.monotonic()
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *(tests or FAST_TESTS)]
    with open(log, "w", encoding="utf-8") as handle:
        code = subprocess.run(command, cwd=ROOT, stdout=handle, stderr=subprocess.STDOUT).returncode
    counts = count_outcomes(log.read_text(encoding="utf-8"))
    # pytest may end without a test, as after a mistake in a file's name.
    if code and not counts["failed"]:
        raise SystemExit(f"{log}: pytest ended with code {code}; read its last lines")
    return counts, time.monotonic() - started


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sets", default=",".join(SETS), metavar="NAME,NAME", help="of oldest, pinned, newest"
    )
    parser.add_argument("--tests", nargs="+", default=[], metavar="FILE", help="run these whole instead")
    default = str(ROOT / ".venv-versions")
    parser.add_argument("--dir", default=default, metavar="DIR", help="where the environments and logs are")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    folder = Path(args.dir)
    folder.mkdir(parents=True, exist_ok=True)
    print("| versions | transformers | peft | passed | failed | skipped | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    n_failed = 0
    for versions in args.sets.split(","):
        python = make_environment(folder / versions, versions)
        counts, seconds = run_tests(python, args.tests, folder / f"{versions}.log")
        numbers = [str(counts[outcome]) for outcome in OUTCOMES]
        row = [versions, *installed(python), *numbers, f"{seconds:.0f}"]
        print(f"| {' | '.join(row)} |", flush=True)
        n_failed += counts["failed"]
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
