"""A model of the hub is pushed to while a project is under way: each run names its commit, and takes one.

The hub is a cache folder with two commits of one model, of which the branch `main` names the later one.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import evaluate_sft_fast_robust
import make_prefs
import train_sft
from models.base import base_for, check_loaded_base, model_weights, trained_on
from models.directories import adapter_base, check_model_name, is_path
from models.hub_cache import cached_dir
from models.loading import load_model, load_tokenizer
from models.revisions import hub_revisions, run_models
from models.shape import parameters_in_name
from preferences.card import head_card
from preferences.features import features_folder
from preferences.head_base import base_of_head
from preferences.reward import PENALTIES, head_config
from preferences.reward_config import DEFAULTS
from tests.test_train_sft import config_text
from utils.errors import DataError, UsageError
from utils.hub_names import hub_model_id, split_revision
from utils.jsonl import read_json, write_json
from utils.runs import describe_run, open_run_dir

MODEL = "owner/tiny"
FIRST = "1" * 40
SECOND = "2" * 40


# --- the names


@pytest.mark.parametrize(
    ("name", "hub_id", "revision"),
    [
        (f"google/gemma-2-9b@{FIRST}", "google/gemma-2-9b", FIRST),
        ("gpt2@v1.0", "gpt2", "v1.0"),
        ("owner/tiny@refs/pr/7", MODEL, "refs/pr/7"),
        (MODEL, MODEL, None),
        ("./tiny@v1", "./tiny@v1", None),
        ("/models/tiny@v1", "/models/tiny@v1", None),
        ("~/tiny@v1", "~/tiny@v1", None),
        ("owner/tiny@", "owner/tiny@", None),
    ],
)
def test_a_revision_is_what_stands_behind_the_at_sign_of_a_hub_id(name, hub_id, revision):
    assert split_revision(name) == (hub_id, revision)
    assert is_path(name) == name.startswith((".", "/", "~"))


def test_a_folder_with_an_at_sign_in_its_name_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "owner/tiny@v1").mkdir(parents=True)
    assert split_revision("owner/tiny@v1") == ("owner/tiny@v1", None)


def test_names_with_a_revision_are_checked_like_others():
    check_model_name(f"{MODEL}@{FIRST}")
    with pytest.raises(DataError, match="an embedded model has one version; write embedded"):
        check_model_name("embedded@v1")
    with pytest.raises(DataError, match="neither a folder nor a hub id"):
        check_model_name("owner/tiny@")
    assert hub_model_id(f"{MODEL}@{FIRST}") == MODEL
    # A commit may end in what looks like a number of parameters.
    assert parameters_in_name(f"{MODEL}@{'a' * 38}7b") is None


def test_an_adapter_has_the_revision_where_peft_looks_for_it(tmp_path):
    adapter = tmp_path / "adapter_config.json"
    for base, revision, expected in (
        (MODEL, FIRST, f"{MODEL}@{FIRST}"),
        (MODEL, None, MODEL),
        # A folder has no revisions, whatever another tool has written.
        ("/models/tiny", "main", "/models/tiny"),
    ):
        write_json(adapter, {"base_model_name_or_path": base, "revision": revision})
        assert adapter_base(str(tmp_path)) == expected


# --- a hub whose model is pushed to


def save_commit(cache: Path, tiny_dir: Path, commit: str, scale: float) -> None:
    """A snapshot of the tiny model, with its weights times `scale`."""
    folder = cache / "models--owner--tiny/snapshots" / commit
    shutil.copytree(tiny_dir, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    model.save_pretrained(folder)


def push(cache: Path, commit: str, ref: str = "main") -> None:
    path = cache / "models--owner--tiny/refs" / ref
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(commit)


@pytest.fixture(scope="module")
def hub_files(tiny_gemma_dir, tmp_path_factory):
    cache = tmp_path_factory.mktemp("hub")
    save_commit(cache, tiny_gemma_dir, FIRST, 1.0)
    save_commit(cache, tiny_gemma_dir, SECOND, 0.5)
    push(cache, FIRST, "v1")
    return cache


@pytest.fixture
def hub(hub_files, monkeypatch):
    """The hub's cache; `main` is the second commit until a test pushes another one."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub_files))
    push(hub_files, SECOND)
    return hub_files


def first_weight(name: str) -> torch.Tensor:
    return next(load_model(name).parameters()).float()


def test_the_commit_that_is_named_is_loaded(hub):
    first = first_weight(f"{MODEL}@{FIRST}")
    assert torch.equal(first_weight(f"{MODEL}@v1"), first)
    assert torch.allclose(first_weight(MODEL), 0.5 * first)
    assert load_tokenizer(f"{MODEL}@{FIRST}").name_or_path == MODEL
    assert cached_dir(f"{MODEL}@v1").name == FIRST
    with pytest.raises(DataError, match=f"{MODEL}@v2: cannot be loaded .* check name and revision"):
        load_model(f"{MODEL}@v2")


def test_a_run_is_not_resumed_on_weights_that_were_pushed_in_between(hub, tmp_path):
    def run_of(name: str) -> dict:
        return describe_run({"model_name": name}, {}, 1, models=run_models(name))

    push(hub, FIRST)
    open_run_dir(tmp_path, run_of(MODEL), False)
    (tmp_path / "checkpoint-1").mkdir()
    assert open_run_dir(tmp_path, run_of(MODEL), False) == "resume"
    push(hub, SECOND)
    with pytest.raises(UsageError, match=rf"models\.owner/tiny .*{MODEL}@{FIRST} names the first"):
        open_run_dir(tmp_path, run_of(MODEL), False)
    # It goes on with the commit that the message names.
    assert open_run_dir(tmp_path, run_of(f"{MODEL}@{FIRST}"), False) == "resume"


def trained_by_hand(folder: Path, base: str, revision: str | None) -> str:
    """A checkpoint's small files, by which its base is known again."""
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": base})
    weights = {"base_weights": read_json(folder.parent / "weights.json")[FIRST]}
    write_json(folder / "run.json", {"base_model": base, "base_revision": revision, **weights})
    return str(folder)


def test_a_base_that_was_pushed_to_is_refused_and_its_former_commit_named(hub, tmp_path):
    write_json(tmp_path / "weights.json", {FIRST: model_weights(f"{MODEL}@{FIRST}")})
    checkpoint = trained_by_hand(tmp_path / "checkpoint-best", MODEL, FIRST)
    with pytest.raises(UsageError, match=f"has other weights .* --base-model {MODEL}@{FIRST}"):
        check_loaded_base(checkpoint, base_for(checkpoint, None))
    named = f"{MODEL}@{FIRST}"
    assert base_for(checkpoint, named) == named
    check_loaded_base(checkpoint, named)
    # A commit that is not here cannot be compared before it is loaded, and is no other model for that.
    elsewhere = f"{MODEL}@{'3' * 40}"
    assert base_for(checkpoint, elsewhere) == elsewhere


def test_a_head_whose_base_was_pushed_to_is_refused_and_reads_no_features_of_another_commit(hub):
    named = f"{MODEL}@{FIRST}"
    saved = {"base_model": MODEL, "base_weights": model_weights(named), "base_revision": FIRST}
    with pytest.raises(UsageError, match=f"has other weights .* --set base_model={named}"):
        base_of_head(Path("rm/best"), saved, MODEL)
    assert base_of_head(Path("rm/best"), saved, named) == named
    config = DEFAULTS | {"base_model": MODEL, "output_dir": "rm"}
    folders = []
    for commit in (FIRST, SECOND):
        push(hub, commit)
        folders.append(features_folder(config, "t"))
    assert folders[0] != folders[1]


def test_a_copy_without_weights_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    write_json(tmp_path / f"models--owner--tiny/snapshots/{FIRST}/config.json", {})
    push(tmp_path, FIRST)
    assert cached_dir(MODEL) is None
    (tmp_path / f"models--owner--tiny/snapshots/{FIRST}/model.safetensors").write_bytes(b"x")
    assert cached_dir(MODEL).name == FIRST


def test_a_checkpoint_on_a_hub_model_finds_its_base_though_no_commit_was_recorded(hub, tmp_path):
    # transformers 5 no longer keeps the commit where it was read: manifests said None, as of local weights,
    # and the base "is no longer there".
    write_json(tmp_path / "weights.json", {FIRST: model_weights(MODEL)})
    checkpoint = trained_by_hand(tmp_path / "checkpoint-best", MODEL, None)
    assert base_for(checkpoint, None) == MODEL
    # Other weights by now, and nothing to tell that the base was not a folder of that name.
    push(hub, FIRST)
    with pytest.raises(DataError, match="its base model owner/tiny is no longer there"):
        base_for(checkpoint, None)


# --- whole runs


def test_every_stage_records_the_commit_and_later_ones_load_it(hub, home):
    pinned = f"{MODEL}@{FIRST}"
    config = home / "sft.yaml"
    config.write_text(config_text(pinned, max_steps=1, eval_steps=1, save_steps=1))
    train_sft.main(["-c", str(config)])
    best = home / "sft/checkpoint-best"
    for folder in (best, home / "sft"):
        run = read_json(folder / "run.json")
        assert run["base_model"] == pinned
        assert run["base_revision"] == FIRST
    assert read_json(home / "sft/run.json")["models"] == {pinned: FIRST}
    adapter = read_json(best / "adapter_config.json")
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == (MODEL, FIRST)
    card = (best / "README.md").read_text()
    assert f"{MODEL} at commit {FIRST}" in card
    assert f'from_pretrained(BASE, revision="{FIRST}")' in card and f'BASE = "{MODEL}"' in card
    # Nothing names the base here: it comes from the checkpoint, while `main` is another commit.
    assert trained_on(best).name == pinned

    test_data = "data/processed/test.jsonl"
    flags = ["--model-path", str(best), "--test-data", test_data, "--limit", "2", "--max-new-tokens", "4"]
    evaluate_sft_fast_robust.main([*flags, "--output", "eval.json"])
    assert read_json(home / "eval.json")["run"]["revisions"] == {pinned: FIRST}

    # Candidates of the SFT model alone, as by default.
    flags = ["--sft-model", str(best), "--data-path", "data/processed/val.jsonl", "--max-samples", "2"]
    make_prefs.main(["--phase", "generate", *flags, "--max-new-tokens", "4"])
    [manifest] = (home / "prefs/cache").glob("*/manifest.json")
    assert read_json(manifest)["base_revision"] == FIRST
    assert read_json(manifest)["settings"]["base_model"] == pinned


def test_candidates_of_the_sft_model_alone_record_the_commit_of_its_base(hub, home, tiny_gemma_dir):
    # Once the base model was asked for its commit only when it made candidates itself, and the manifest
    # said None: another commit was not noticed by the next run.
    config = home / "sft.yaml"
    config.write_text(config_text(MODEL, max_steps=1, eval_steps=1, save_steps=1))
    train_sft.main(["-c", str(config)])
    flags = ["--sft-model", "sft/checkpoint-best", "--data-path", "data/processed/val.jsonl"]
    make_prefs.main(["--phase", "generate", *flags, "--max-samples", "2", "--max-new-tokens", "4"])
    [manifest] = (home / "prefs/cache").glob("*/manifest.json")
    assert read_json(manifest)["base_revision"] == SECOND


def test_a_reward_head_and_its_card_name_the_commit(hub, tokenizer):
    config = {**DEFAULTS, "base_model": f"{MODEL}@{FIRST}"}
    saved = head_config(config, {"mean": 0.0, "std": 1.0}, {})
    assert saved["base_revision"] == FIRST
    assert hub_revisions(f"{MODEL}@{FIRST}", MODEL) == {f"{MODEL}@{FIRST}": FIRST, MODEL: SECOND}
    facts = {**saved, "penalty_weights": dict.fromkeys(PENALTIES, 0.0), "measured": [], "sources": {}}
    template = (Path(__file__).parents[2] / "prompts/sft_default.txt").read_text()
    card = head_card({**facts, "decided_by": [], "writers": []}, tokenizer, template, ".", f"{MODEL}@{FIRST}")
    assert f'from_pretrained(BASE, revision="{FIRST}")' in card
    assert f'BASE = "{MODEL}"' in card
    assert json.dumps(saved)
