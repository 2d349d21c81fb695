"""All that the documents name exists: commands, flags, paths, `make` targets, sections and code names.

tests/documents.py finds these references in Markdown pages, docstrings, comments, messages and help texts.
"""

import fnmatch
import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import ask
import build_data
import evaluate_sft_fast_robust
import make_prefs
import prompt_schema
import robustness
import train_dpo
import train_rm
import train_sft
from tests.documents import (
    OUTPUT_FOLDERS,
    ROOT,
    Text,
    code_blocks,
    flags_in,
    flags_of_code,
    flags_of_parser,
    headings_of,
    modules_in,
    names_in_code,
    paths_in,
    read_documents,
    sections_in,
    targets_in,
    tracked_files,
    words_of_code,
)
from tests.printed_commands import demo_commands, pages
from tests.test_layers import STEP_OF

SCRIPTS = {
    module.__name__: module
    for module in (
        ask,
        build_data,
        prompt_schema,
        train_sft,
        evaluate_sft_fast_robust,
        make_prefs,
        train_rm,
        train_dpo,
        robustness,
    )
}
# The commands of the user's own notebook, word for word.
NOTEBOOK_COMMANDS = [
    "python build_data.py --data-dir data --seed 42 --accept-new-hash",
    "python prompt_schema.py save --prompts-dir prompts",
    "python prompt_schema.py test",
    "python train_sft.py -c configs/sft_gemma2.yaml",
    "python evaluate_sft_fast_robust.py --model-path checkpoints/sft/gemma2-9b/checkpoint-35 "
    "--base-model google/gemma-2-9b --test-data data/processed/test.jsonl --compare-baseline --batch-size 4 "
    "--max-new-tokens 256 --fast --buckets 2048,3072,4096,5120,6144,7168,7936 --attn-impl flash2 "
    "--output eval_results.json",
    "python make_prefs.py --phase generate --sft-model checkpoints/sft/gemma2-9b/checkpoint-29 "
    "--base-model google/gemma-2-9b --data-path data/processed/train.jsonl --max-samples 600 "
    "--n-generations 2 --batch-size 12 --max-new-tokens 80 --max-input-tokens 1536 --temperature 0.0 "
    "--use-8bit",
    "python make_prefs.py --phase judge --judge-model Qwen/Qwen2.5-3B-Instruct "
    "--data-path data/processed/train.jsonl --max-samples 600 --n-generations 2 --judge-batch-size 12 "
    "--min-margin 0.12 --judge-use-8bit --output-mode rich",
    "python train_rm.py -c configs/rm.yaml",
    "python train_rm.py -c configs/rm.yaml --validate-only --checkpoint best",
]
NOTEBOOK_CONFIGS = {
    "sft_gemma2.yaml": {
        "model_name": "google/gemma-2-9b",
        "output_dir": "checkpoints/sft/gemma2-9b",
        "load_in_4bit": True,
        "bf16": True,
        "trust_remote_code": False,
        "attn_implementation": "eager",
        "lora": {
            "r": 16,
            "alpha": 32,
            "dropout": 0.05,
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        },
        "training": {
            "per_device_train_batch_size": 1,
            "per_device_eval_batch_size": 2,
            "gradient_accumulation_steps": 64,
            "learning_rate": 1.5e-5,
            "num_train_epochs": 2,
            "max_seq_length": 2048,
            "warmup_ratio": 0.03,
            "weight_decay": 0.1,
            "lr_scheduler_type": "cosine",
            "logging_steps": 10,
            "eval_steps": 100,
            "save_steps": 100,
            "save_total_limit": 2,
            "seed": 42,
        },
        "data": {
            "train_path": "data/processed/train.jsonl",
            "val_path": "data/processed/val.jsonl",
            "template": "default",
            "max_samples": None,
            "max_val_samples": 500,
        },
    },
    "rm.yaml": {
        "base_model": "google/gemma-2-9b",
        "output_dir": "checkpoints/rm",
        "learning_rate": "5e-6",
        "batch_size": 16,
        "eval_batch_size": 32,
        "num_epochs": 3,
        "warmup_ratio": 0.1,
        "weight_decay": 0.01,
        "max_seq_length": 2048,
        "gradient_accumulation_steps": 1,
        "eval_steps": 100,
        "save_steps": 200,
        "logging_steps": 10,
        "load_in_8bit": False,
        "seed": 42,
        "citation_penalty_weight": 0.2,
        "confidence_penalty_weight": 0.1,
        "length_penalty_weight": 0.05,
        "overcitation_penalty_weight": 0.15,
        "span_penalty_weight": 0.25,
    },
}


def commands_in(text: str) -> list[str]:
    """`python <script>.py ...` command lines of a text, continuation lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    names = "|".join(SCRIPTS)
    return [match.group().strip() for match in re.finditer(rf"python (?:{names})\.py[^\n`#|]*", joined)]


def parse(command: str):
    """The parsed flags of a command; argparse exits, which fails the test, if it does not accept one."""
    words = shlex.split(command)
    return SCRIPTS[words[1].removesuffix(".py")].build_parser().parse_args(words[2:])


# --- commands


def notebook_code() -> str:
    """The code cells of the notebook, with numbers and names in place of its variables."""
    notebook = json.loads((ROOT / "notebooks/factuality_slice.ipynb").read_text())
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    text = re.sub(r"\{(TRAIN|TEST|PREF)_ROWS\}", "10", "\n".join(cells))
    # A command ends where its string does.
    return re.sub(r'"+\)$', "", text.replace("{BASE}", "embedded"), flags=re.MULTILINE)


def documented() -> list[str]:
    """Every command of a stage that a page, the Makefile, the notebook or a script's docstring shows."""
    pages = [name for name in tracked_files() if name.endswith(".md") and name != "docs/log.md"]
    texts = [(ROOT / name).read_text() for name in pages]
    texts += [*demo_commands("demo"), *demo_commands("demo-gemma")]
    texts.append(notebook_code())
    # CONTRIBUTING.md shows how to run a judge that is not written yet.
    texts = [text.replace("--judge <name>", "--judge verifier") for text in texts]
    texts += [module.__doc__ for module in SCRIPTS.values()]
    commands = []
    for text in texts:
        commands += commands_in(text)
    return commands


@pytest.mark.parametrize("command", sorted(set(documented())))
def test_every_documented_command_is_accepted(command):
    parse(command)


def test_the_documents_show_every_script():
    shown = {shlex.split(command)[1] for command in commands_in((ROOT / "README.md").read_text())}
    assert shown == {f"{name}.py" for name in SCRIPTS}


@pytest.mark.parametrize("command", NOTEBOOK_COMMANDS)
def test_the_users_notebook_commands_run_dry(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    words = shlex.split(command)
    # The validator's self-check reads no file and writes none, so it has no dry run.
    if words[2:] != ["test"]:
        words.append("--dry-run")
    SCRIPTS[words[1].removesuffix(".py")].main(words[2:])
    assert capsys.readouterr().out
    assert not list(tmp_path.iterdir()), "a dry run wrote something"


@pytest.mark.parametrize("name, keys", NOTEBOOK_CONFIGS.items())
def test_the_shipped_configs_hold_the_notebooks_values(name, keys):
    import yaml

    assert yaml.safe_load((ROOT / "configs" / name).read_text()) == keys


def test_the_notebook_is_stripped_and_starts_in_demo_mode():
    notebook = json.loads((ROOT / "notebooks/factuality_slice.ipynb").read_text())
    assert all(
        not cell.get("outputs") and cell.get("execution_count") is None
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
    )
    assert "DEMO = True" in "".join(notebook["cells"][1]["source"])


@pytest.mark.parametrize("name, variable", [("sft_gemma2.yaml", "SFT_CONFIG"), ("rm.yaml", "RM_CONFIG")])
def test_a_config_that_is_changed_in_the_notebook_is_the_one_that_is_read(name, variable, tmp_path):
    source = (ROOT / "notebooks/factuality_slice.py").read_text()
    (cell,) = [part for part in source.split("\n# %%") if f"{variable} = " in part]
    home = tmp_path / "My Drive"
    (home / "configs").mkdir(parents=True)
    names = {"DEMO": False, "HOME": str(home), "Path": Path, "shlex": shlex}
    exec(cell.partition("\n")[2], names)
    (read,) = shlex.split(names[variable])
    assert Path(read) == home / "configs" / name and Path(read).is_file()


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_help_names_the_effect_of_every_flag_and_two_examples(name):
    parser = SCRIPTS[name].build_parser()
    assert len(commands_in(SCRIPTS[name].__doc__)) >= 2
    assert all(action.help for action in parser._actions if action.option_strings)


# --- references

# Files that a stage writes, as patterns. A test holds each against the docstring of the script.
OUTPUTS = {
    "build_data": [
        "data/raw/*",
        "data/processed/{train,val,test}.jsonl",
        "data/processed/train_made.jsonl",
        "audit.json",
        "README.md",
        "run.json",
        "data/source_hashes.json",
    ],
    "prompt_schema": ["output_schema.json", "config.yaml"],
    "train_sft": [
        "checkpoint-<step>",
        "checkpoint-best",
        "checkpoint-final",
        "training_history.json",
        "loss_curve.png",
        "calibration.json",
        "train_ids.txt",
    ],
    "evaluate_sft_fast_robust": [
        "<stem>_predictions.jsonl",
        "<stem>_candidates.jsonl",
        "<stem>_calibration.png",
    ],
    "robustness": ["robustness.json", "<stem>.png", "<stem>_predictions.jsonl"],
    "make_prefs": [
        "manifest.json",
        "gens_sft.jsonl",
        "gens_base.jsonl",
        "judgements_<judgesig>.jsonl",
        "prefs/preferences_<gensig>-<judgesig>.jsonl",
        "prefs/preference_stats_<gensig>-<judgesig>.json",
        "prefs/preference_stats_<gensig>-<judgesig>.png",
    ],
    "train_dpo": ["reference.safetensors"],
    "train_rm": [
        "reward_head.safetensors",
        "training_history.json",
        "validation.json",
        "split.json",
        "curves.png",
        "calibration.png",
        "run.json",
        "FILE_scores.jsonl",
    ],
}
# What every stage writes again at its end.
OF_EVERY_STAGE = {"report.html"}
# What `make sbom` writes.
OF_MAKE = {"sbom.json"}
OF_BENCHMARKS = {"gpu_check.json"}
# Names that users choose; the examples agree on these.
CHOSEN = {
    "eval_results.json",
    "eval_merged.json",
    "rescored.json",
    "eval_best.json",
    "eval_memory.json",
    "eval_fitted.json",
    "eval_orders.json",
    "eval_external.json",
    "ablation.jsonl",
    "eval_own.json",
    "eval.html",
    "completions.jsonl",
    "pairs.jsonl",
    "my/handbook.jsonl",
    "notes.txt",
    "checkpoints/sft/model",
}
# Files that transformers and PEFT write, and a member of FEVER's zip.
FOREIGN = {
    *("config.json", "generation_config.json", "adapter_config.json"),
    *("*.safetensors", "wiki-pages/wiki-001.jsonl"),
}
# Flags of other programs.
FOREIGN_FLAGS = {
    *("--disable-pip", "--hash", "--output-file", "--output-reproducible", "--pyproject", "--require-hashes"),
    *("--help", "--durations", "--mount", "--dist", "--no-loadscope-reorder"),
    *("--constraint", "--quiet", "--requirement", "--no-deps", "--force-reinstall", "--index-url"),
    *("--cpu", "--num_processes", "--multi_gpu", "--config_file"),
    *("--cached", "--others", "--exclude-standard"),
}


def place_list(found: dict[str, list[str]]) -> str:
    """One line per unknown reference: what it is and where it is named."""
    return "\n".join(f"{name}: {', '.join(places[:3])}" for name, places in sorted(found.items()))


def unknown(texts: list[Text], find, is_known) -> str:
    """Lines for the references that `find` sees in the texts and that `is_known` does not accept."""
    found: dict[str, list[str]] = {}
    for text in texts:
        for name in find(text.text):
            if not is_known(name, text.place):
                found.setdefault(str(name), []).append(text.place)
    return place_list(found)


def test_wrong_references_are_found():
    text = 'See `utils/gone.py` and README.md, "No such part"; `make nothing`, `python -m utils.gone --gone`.'
    assert paths_in(text, {"utils"}) == {"utils/gone.py", "README.md"}
    assert sections_in(text) == {("README.md", "No such part")}
    assert targets_in(text) == {"nothing"}
    assert modules_in(text) == {"utils.gone"}
    assert flags_in(text) == {"--gone"}
    # Prose and units are no paths, and a flag's variants in an f-string are no flag.
    assert paths_in("chosen/rejected, 12 samples/s, google/gemma-2-9b, --use-{bits}bit", {"utils"}) == set()
    assert flags_in("--use-{bits}bit") == set()


@pytest.mark.parametrize(
    "text, paths",
    [
        ("data/processed/{train,val}.jsonl", {"data/processed/train.jsonl", "data/processed/val.jsonl"}),
        ("checkpoints/sft/checkpoint-<step>/, then", {"checkpoints/sft/checkpoint-*/"}),
        ("data/processed/train.jsonl:17: no answer", {"data/processed/train.jsonl"}),
    ],
)
def test_paths_become_patterns(text, paths):
    assert paths_in(text, {"data", "checkpoints"}) == paths


@pytest.fixture(scope="module")
def texts():
    return read_documents()


def output_patterns() -> set[str]:
    """Outputs of all stages: whole patterns, and the last part of each, which documents name alone."""
    patterns = set()
    for outputs in OUTPUTS.values():
        for output in outputs:
            # A folder such as checkpoint-<step> has no extension, so `paths_in` does not see it.
            for path in paths_in(output, {"data", "prefs"}) or {re.sub("<step>", "*", output)}:
                patterns |= {path, path.rsplit("/", 1)[-1]} - {"*"}
    return patterns


def test_every_path_that_is_named_exists_or_is_an_output(texts):
    files = tracked_files()
    folders = {str(parent) for name in files for parent in Path(name).parents}
    file_names = {name.rsplit("/", 1)[-1] for name in files}
    patterns = output_patterns() | OF_EVERY_STAGE | OF_BENCHMARKS | OF_MAKE | CHOSEN | FOREIGN

    def is_output(path: str) -> bool:
        # Stages write below a folder that the user chooses, so the last part decides.
        last = path.rsplit("/", 1)[-1]
        if any(fnmatch.fnmatch(word, pattern) for pattern in patterns for word in (path, last)):
            return True
        # `_predictions.jsonl` and `preferences_*.jsonl` name a whole kind of file.
        is_kind = "*" in last or last.startswith("_")
        if is_kind and any(fnmatch.fnmatch(pattern, f"*{last}") for pattern in patterns):
            return True
        # Folders of outputs are named for the model or the run: any name will do.
        return path.split("/")[0] in OUTPUT_FOLDERS and "." not in last

    def is_known(path: str, place: str) -> bool:
        path = path.rstrip("/").replace("...", "*")
        if path.startswith("demo/"):
            return is_output(path) or is_known(path.removeprefix("demo/"), place)
        # data/README.md and the sample's builder name files from where they are.
        for base in ("", "data/", "data/sample/", "data/sample/raw/"):
            if base + path in folders or any(fnmatch.fnmatch(name, base + path) for name in files):
                return True
        is_data = path in ("demo", "data/processed", "data/raw", "data/external")
        return path in file_names or is_data or is_output(path)

    top_folders = {name.split("/")[0] for name in files if "/" in name} | OUTPUT_FOLDERS
    missing = unknown(texts, lambda text: paths_in(text, top_folders), is_known)
    assert not missing, missing


@pytest.mark.parametrize("name", sorted(OUTPUTS))
def test_a_scripts_docstring_names_its_outputs(name):
    # A docstring gives the folder once and then the names, so only the last part is looked up.
    last_parts = [path.rsplit("/", 1)[-1].rstrip("*") for path in OUTPUTS[name]]
    missing = [part for part in last_parts if part not in SCRIPTS[name].__doc__]
    assert not missing


def test_every_flag_that_is_named_belongs_to_a_script(texts):
    flags = flags_of_code() | FOREIGN_FLAGS
    for module in SCRIPTS.values():
        flags |= flags_of_parser(module.build_parser())
    missing = unknown(texts, flags_in, lambda flag, place: flag in flags)
    assert not missing, missing


def test_every_make_target_that_is_named_exists(texts):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "test-fast", "lint"} <= targets
    missing = unknown(texts, targets_in, lambda target, place: target in targets)
    assert not missing, missing


def test_every_module_that_is_run_exists(texts):
    def is_module(name: str, place: str) -> bool:
        # pip, pytest and accelerate are other people's modules.
        is_ours = (ROOT / (name.replace(".", "/") + ".py")).is_file()
        return is_ours or name.split(".")[0] in {"pip", "pytest", "venv", "accelerate", "json"}

    missing = unknown(texts, modules_in, is_module)
    assert not missing, missing


def test_every_section_that_is_named_exists(texts):
    def exists(section: tuple[str, str], place: str) -> bool:
        page, heading = section
        path = page if page.endswith(".md") else f"{page}.md"
        return (ROOT / path).is_file() and heading in headings_of(path)

    missing = unknown(texts, sections_in, exists)
    assert not missing, missing


def test_the_hub_commands_of_the_pages_are_those_of_the_installed_library():
    installed = {script.name for script in importlib.metadata.distribution("huggingface_hub").entry_points}
    named = set()
    for page in pages():
        named |= set(re.findall(r"`(hf|huggingface-cli) ", (ROOT / page).read_text()))
    assert named and named <= installed


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_name_that_the_guides_show_as_code_is_in_the_code(page):
    text = (ROOT / page).read_text()
    missing = sorted(names_in_code(text) - words_of_code())
    assert not missing, missing
    # Tests are named as pytest names them, with the file.
    for path, name in re.findall(r"(tests/\w+\.py)::(\w+)", text):
        assert f"def {name}" in (ROOT / path).read_text()


def test_the_reader_in_the_source_recipe_works(tmp_path):
    # The page shows a module and a test of it; the test is run against the module.
    reader, test = code_blocks("CONTRIBUTING.md")
    quiz: dict = {}
    exec(reader, quiz)
    recipe: dict = {"json": json, "quiz": SimpleNamespace(**quiz)}
    exec(test, recipe)
    recipe["test_quiz_rows_become_records"](tmp_path)


# --- the picture


def test_the_picture_of_the_architecture_is_current():
    command = [sys.executable, "docs/draw_architecture.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_picture_shows_the_steps_of_the_import_rule():
    # The script computes the steps from the imports; the rule states them. They may not drift apart.
    text = (ROOT / "docs/architecture.md").read_text()
    for number, box in re.findall(r"subgraph step(\d) \[Step \d\]\n(.*?)  end", text, re.DOTALL):
        assert set(box.split()) == {package for package, step in STEP_OF.items() if step == int(number)}
