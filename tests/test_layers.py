"""Data flows one way: utils import no script, sources import only utils, scripts import each other for prompt_schema alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}


def imported(path: Path) -> set[str]:
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


@pytest.mark.parametrize("path", sorted((ROOT / "utils").glob("*.py")), ids=lambda p: p.name)
def test_utils_import_no_script_and_no_source(path):
    assert not tops(path) & (SCRIPTS | {"sources"})


@pytest.mark.parametrize("path", sorted((ROOT / "sources").glob("*.py")), ids=lambda p: p.name)
def test_sources_import_only_utils(path):
    assert not tops(path) & (SCRIPTS | {"sources"})


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_scripts_import_each_other_for_prompt_schema_alone(name):
    allowed = {"prompt_schema"} if name != "prompt_schema" else set()
    assert tops(ROOT / f"{name}.py") & SCRIPTS <= allowed


@pytest.mark.parametrize("name", sorted(SCRIPTS - {"build_data"}))
def test_only_build_data_knows_the_sources(name):
    assert "sources" not in tops(ROOT / f"{name}.py")


def test_generation_knows_no_citations_and_metrics_no_models():
    assert not any(word in (ROOT / "generation/engine.py").read_text() for word in ("citation", "support"))
    assert not tops(ROOT / "utils/metrics.py") & {"torch", "transformers"}
    assert not tops(ROOT / "build_data.py") & {"torch", "transformers"}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("*.py")) + sorted((ROOT / "utils").glob("*.py")) + sorted((ROOT / "sources").glob("*.py")), ids=lambda p: p.name
)
def test_nothing_is_unpickled_or_blindly_trusted(path):
    text = path.read_text()
    assert not tops(path) & {"pickle", "shelve", "marshal"}
    assert "yaml.load(" not in text and "torch.load(" not in text and "eval(" not in text.replace(".eval(", "")
