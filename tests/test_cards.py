"""Model cards: valid for the hub, code that runs as printed, and nothing that tells whose machine it was."""

import copy
import getpass
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard

import train_sft
from evaluation.evaluated import evaluation_of
from models.embedded_models import EMBEDDED_MODELS
from preferences.card_words import pair_sources
from prompt_schema import PromptBuilder, load_template
from tests.test_sft_runs import write_config
from tests.tokenizer_kinds import ACROSS_WORDS, KINDS
from training.card import SftCard, count_sources, local_place, measured_on_val
from training.whole import is_whole
from utils.cards import prompt_code
from utils.hub_names import EMBEDDED_IDS, dataset_ids, hub_model_id, licence_ids, model_licence, reference
from utils.jsonl import read_json, write_json
from utils.text import REFUSAL

# Of the hub's list; a card with another one is refused when it is pushed.
LICENCES = {"apache-2.0", "mit", "gemma", "llama2", "llama3", "llama3.1", "other", "unknown"}


@pytest.fixture(scope="module")
def trained(tiny_gemma_dir, data_home, tmp_path_factory):
    """A run of two steps, with what was printed left out."""
    home = tmp_path_factory.mktemp("cards")
    (home / "data").symlink_to(data_home / "data")
    (home / "tiny").symlink_to(tiny_gemma_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTUALITY_HOME", str(home))
        config = write_config(home, "tiny", max_steps=2, eval_steps=1, save_steps=1)
        train_sft.main(["-c", str(config)])
        train_sft.main(["-c", str(config), "--set", "output_dir=full", "--set", "full_finetuning=true"])
    return home


def code_of(card: str) -> str:
    [code] = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return code


def folders(home: Path) -> list[Path]:
    return sorted(path for path in home.glob("*/checkpoint-*") if path.is_dir())


@pytest.mark.parametrize("licence", [{}, {"licence": None}])
def test_a_licence_that_is_not_stated_is_said_to_be_so(licence):
    wanted = {"own": {"n": 1, "licence": "not stated"}}
    assert pair_sources([{"source": "own", **licence}]) == wanted
    assert count_sources([{"source": "own", "metadata": licence}]) == wanted


def test_every_checkpoint_has_a_card_that_the_hub_can_read(trained):
    found = folders(trained)
    assert {path.name for path in found} == {
        "checkpoint-1",
        "checkpoint-2",
        "checkpoint-best",
        "checkpoint-final",
    }
    for folder in found:
        data = ModelCard.load(folder / "README.md").data
        assert data.license in LICENCES
        assert data.library_name == ("peft" if folder.parent.name == "sft" else "transformers")
        assert data.pipeline_tag == "text-generation"
        assert {"citations", "refusal"} <= set(data.tags)
        # The parsed model-index: metrics of val, as numbers.
        losses = [result for result in data.eval_results if result.metric_type == "loss"]
        assert [result.metric_value for result in losses] == [
            round(read_json(folder / "run.json")["eval_loss"], 4)
        ]
        # A local model has no id on the hub, and the bundled sample is no data set there.
        assert data.base_model is None and data.datasets is None
        assert is_whole(folder)


def test_the_last_step_has_the_metrics_of_the_answers_at_the_end(trained):
    last = ModelCard.load(trained / "sft/checkpoint-final/README.md")
    first = ModelCard.load(trained / "sft/checkpoint-1/README.md")
    metrics = {result.metric_type for result in last.data.eval_results}
    assert {"loss", "net_score", "schema_valid_rate"} <= metrics
    assert {result.metric_type for result in first.data.eval_results} == {"loss"}
    # The card of the run is that of its best checkpoint, by its path in the run.
    assert 'MODEL = "checkpoint-best"' in (trained / "sft/README.md").read_text()


@pytest.mark.parametrize("folder", ["sft/checkpoint-best", "sft", "full/checkpoint-final"])
def test_the_code_of_a_card_runs_as_printed(folder, trained):
    code = code_of((trained / folder / "README.md").read_text())
    # A user's shell, where the project is not on the path.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=trained / folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


# A chat model's turns, as many hub models have them.
TURNS = (
    "{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@pytest.mark.parametrize("kind", [*(name for name in KINDS if name not in ACROSS_WORDS), "base", "chat"])
def test_the_code_builds_the_prompt_of_the_project(kind, tokenizer):
    template = load_template("sft", "default")
    tokenizer = copy.deepcopy(tokenizer)
    if kind == "chat":
        tokenizer.chat_template = TURNS
    if kind in KINDS:
        make, _ = KINDS[kind]
        tokenizer = make()
    scope = {"tokenizer": tokenizer}
    card = SftCard({"model_name": "x/y"}, template, tokenizer)
    code = card._code("model", local_place("x/y", Path(".")), None)
    start = code.index("HEAD = ")
    built = (
        code[start : code.index("tokenizer = ")] + code[code.index("question = ") : code.index("ids = torch")]
    )
    exec(built, scope)
    chunks = [{"title": title, "text": text} for title, text in scope["chunks"]]
    sample = {"id": "x", "question": scope["question"], "evidence_chunks": chunks}
    assert scope["ids"] == PromptBuilder(tokenizer, template, 2048).build(sample).ids
    assert REFUSAL in prompt_code(tokenizer, template)


def test_no_file_of_a_checkpoint_tells_whose_machine_it_was(trained):
    words = [str(trained), str(Path.home()), os.getcwd(), f"/{getpass.getuser()}/"]
    for folder in folders(trained):
        for path in folder.iterdir():
            raw = path.read_bytes()
            assert not [word for word in words if word.encode() in raw], path
        # A pickle of all arguments: paths, and the token of the hub.
        assert not (folder / "training_args.bin").exists()


def test_how_a_card_names_a_model(tmp_path):
    checkpoint = tmp_path / "home/checkpoints/sft/checkpoint-best"
    base = tmp_path / "home/tiny"
    checkpoint.mkdir(parents=True)
    base.mkdir()
    assert reference("tiny", base, checkpoint) == "../../../tiny"
    assert reference("google/gemma-2-9b", Path("google/gemma-2-9b"), checkpoint) == "google/gemma-2-9b"
    # A path from the root on would name folders of the machine.
    assert reference("x", Path(sys.prefix), Path("/nowhere/home")) == Path(sys.prefix).name


def test_names_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    assert EMBEDDED_IDS.keys() == EMBEDDED_MODELS.keys()
    assert hub_model_id("embedded") == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert model_licence(hub_model_id("embedded")).id == "apache-2.0"
    assert model_licence(hub_model_id("embedded-gemma")).id == "gemma"
    assert hub_model_id("google/gemma-2-9b") == "google/gemma-2-9b"
    cached = "hub/models--google--gemma-2-9b/snapshots/33c193028431c2fde6c6e51f29e6f17b60cbfac6"
    assert hub_model_id(str(tmp_path / cached)) == "google/gemma-2-9b"
    (tmp_path / "checkpoints/merged").mkdir(parents=True)
    for local in ("checkpoints/merged", "./merged", "/data/models/gemma", "tiny"):
        assert hub_model_id(local) is None

    assert model_licence("google/gemma-2-9b").id == "gemma"
    assert model_licence("meta-llama/Llama-3.1-8B").id == "llama3.1"
    assert model_licence("Qwen/Qwen2.5-7B").id == "apache-2.0"
    # Not every size of a family has the family's licence.
    assert model_licence("Qwen/Qwen2.5-3B-Instruct").link == "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct"
    assert model_licence("someone/model").id == "other"
    assert model_licence(None).id == "unknown"

    assert licence_ids(["CC BY-SA 3.0 (Wikipedia text), FEVER annotations CC BY-SA 3.0", "MIT", "ours"]) == [
        *("cc-by-sa-3.0", "mit", "other")
    ]
    licences = {"fever": "Apache-2.0 (this project)", "popqa": "MIT", "own": "MIT"}
    assert dataset_ids(licences) == ["akariasai/PopQA"]


def test_the_card_of_the_data_loads_it_as_printed(data_home, tmp_path):
    processed = data_home / "data/processed"
    data = DatasetCard.load(processed / "README.md").data
    assert data.license == ["apache-2.0"]
    assert data.task_categories == ["question-answering"]
    files = {part["split"]: part["path"] for part in data.configs[0]["data_files"]}
    assert files == {split: f"{split}.jsonl" for split in ("train", "val", "test")}
    assert str(data_home) not in (processed / "README.md").read_text()

    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": ""}
    command = [sys.executable, "-c", code_of((processed / "README.md").read_text())]
    done = subprocess.run(command, cwd=processed, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_card_has_the_figures_of_a_model_that_was_asked_plainly(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    model = tmp_path / "sft/checkpoint-best"
    model.mkdir(parents=True)

    def write(name: str, n: int, net: float, more: dict, **blocks) -> None:
        settings = {"model_path": "sft/checkpoint-best", "test_data": "data/test.jsonl", **more}
        sft = {"n": n, "net_score": net}
        write_json(tmp_path / name, {"sft": sft, "run": {"settings": settings}, **blocks})

    write("fitted.json", 200, 0.9, {"decisions": "fitted"})
    write("orders.json", 200, 0.9, {"orders": 3})
    write("again.json", 200, 0.9, {"predictions": "p.jsonl"})
    write("selective.json", 200, 0.9, {}, selective={})
    assert evaluation_of(model) is None
    write("whole.json", 100, 0.4, {"decisions": "plain"})
    write("look.json", 6, 0.8, {})
    found = evaluation_of(model)
    assert (found.split, found.n_samples, found.metrics["net_score"]) == ("test", 100, 0.4)


def test_a_card_says_of_how_many_samples_each_metric_is():
    facts = {"n_val_rows": 500, "n_val_generated": 64, "eval_loss": 0.1, "eval_net_score": 0.3}
    assert [(m.n_samples, m.metrics) for m in measured_on_val(facts)] == [
        (500, {"loss": 0.1}),
        (64, {"net_score": 0.3}),
    ]
