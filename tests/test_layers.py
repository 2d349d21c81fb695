"""Imports point one way, to packages on lower steps. Of scripts, a script imports prompt_schema alone."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}

# The import rule. A package may import packages on lower steps: no neighbor on its own step, and no script.
STEPS = [
    {"utils"},
    {"evidence", "models"},
    {"sources", "generation", "evaluation", "perturbations"},
    {"training", "preferences", "reporting", "asking"},
]
PACKAGES = set().union(*STEPS)
STEP_OF = {package: step for step, packages in enumerate(STEPS) for package in packages}

# Packages that work without the model stack: data and results must start fast, and run where no torch is.
WITHOUT_TORCH = {"utils", "evidence", "sources", "evaluation", "perturbations", "reporting"}
MODEL_STACK = {"torch", "transformers", "peft", "accelerate", "bitsandbytes"}


# Kernels are chosen in models/hardware.py. One caller needs a kernel's own layout of the rows: the trainer
# packs them for it.
KERNELS = ("models.cpu_", "models.cuda_")
PACKS_ROWS = {"training/logits.py"}


def modules_of(packages) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def short_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import statement, inside functions too."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {node.module} if node.module else set()
            modules |= {f"{node.module}.{name.name}" for name in node.names}
    return modules


def tops(path: Path) -> set[str]:
    return {module.split(".")[0] for module in imported(path)}


def test_every_package_has_a_step():
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders - {"tests", "benchmarks"} == PACKAGES


@pytest.mark.parametrize("path", modules_of(PACKAGES), ids=short_name)
def test_a_package_imports_only_lower_steps(path):
    own = path.relative_to(ROOT).parts[0]
    lower = {package for package in PACKAGES if STEP_OF[package] < STEP_OF[own]}
    assert tops(path) & (PACKAGES | SCRIPTS) <= lower | {own}


@pytest.mark.parametrize("path", modules_of(WITHOUT_TORCH), ids=short_name)
def test_the_model_stack_stays_out_of_data_and_metrics(path):
    assert not tops(path) & MODEL_STACK


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_import_each_other_for_prompt_schema_alone(name):
    allowed = {"prompt_schema"} if name != "prompt_schema" else set()
    assert tops(ROOT / f"{name}.py") & SCRIPTS <= allowed


@pytest.mark.parametrize("name", sorted(SCRIPTS - {"build_data"}))
def test_only_build_data_knows_the_sources(name):
    assert "sources" not in tops(ROOT / f"{name}.py")


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.py")) + modules_of(PACKAGES - {"models"}), ids=short_name
)
def test_nothing_outside_models_names_a_kernel(path):
    kernels = {module for module in imported(path) if module.startswith(KERNELS)}
    assert not kernels or short_name(path) in PACKS_ROWS


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.py")) + modules_of(PACKAGES), ids=short_name)
def test_only_hardware_asks_what_the_device_can_do(path):
    # Where a model already is (`model.device`) may be asked anywhere.
    text = path.read_text()
    asks = [
        word for word in ("cuda.is_available", "is_bf16_supported", "get_device_capability") if word in text
    ]
    assert not asks or short_name(path) == "models/hardware.py"


def test_generation_knows_no_citations_and_build_data_no_models():
    assert not any(word in (ROOT / "generation/engine.py").read_text() for word in ("citation", "support"))
    assert not tops(ROOT / "build_data.py") & MODEL_STACK


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.py")) + modules_of(PACKAGES), ids=short_name)
def test_nothing_is_unpickled_or_blindly_trusted(path):
    text = path.read_text()
    assert not tops(path) & {"pickle", "shelve", "marshal"}
    assert "yaml.load(" not in text
    assert "torch.load(" not in text
    assert "eval(" not in text.replace(".eval(", "")


# --- how the packages without the model stack start

# Most CPU time to import all modules of a package. On a busy machine the best of three counts.
MAX_IMPORT_SECONDS = 1.5
TRIES = 3


def import_all(package: str) -> tuple[float, set[str]]:
    """CPU seconds to import every module of a package in a new process, and the top modules then loaded."""
    paths = [path for path in modules_of([package]) if path.stem != "__init__"]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    code = f"""
import sys, time
import {", ".join(names)}
print(time.process_time(), *{{name.split(".")[0] for name in sys.modules}})
"""
    # One thread: the pools of numpy's libraries would otherwise count as CPU time.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    seconds, *loaded = done.stdout.split()
    return float(seconds), set(loaded)


@pytest.mark.parametrize("package", sorted(WITHOUT_TORCH))
def test_a_package_without_the_model_stack_starts_fast(package):
    tries = []
    for _ in range(TRIES):
        seconds, loaded = import_all(package)
        # What a module imports may import torch in turn, which the statements above do not show.
        assert not loaded & MODEL_STACK
        tries.append(seconds)
        if seconds < MAX_IMPORT_SECONDS:
            break
    assert min(tries) < MAX_IMPORT_SECONDS, tries
