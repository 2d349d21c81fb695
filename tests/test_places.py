"""Moved and copied folders go on, a replaced file or model is noticed, and leaked test data is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from evidence.reserved import ids_hash, refuse_test_data, shared_val_warning, trained_on_warning
from models import fingerprint
from models.base import base_for, check_loaded_base, model_key
from preferences.head_base import base_of_head, check_head_base
from preferences.judges import judge_key, judge_settings
from utils.config import input_path, portable_path
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, read_jsonl, write_json, write_jsonl
from utils.runs import close_run_dir, describe_run, hash_inputs, open_run_dir

SETTINGS = {"output_dir": "sft", "data": {"train_path": "data/train.jsonl", "val_path": "data/val.jsonl"}}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A function that sets FACTUALITY_HOME to a folder of this name, which may have been moved there."""

    def set_home(name: str):
        monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path / name))
        return tmp_path / name

    for split in ("train", "val"):
        path = tmp_path / f"a/data/{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"rows of {split}\n")
    set_home("a")
    return set_home


def begin(settings: dict, models: dict | None = None, defaults: dict | None = None) -> str:
    """`open_run_dir` for a run with these settings in the present home."""
    paths = [input_path(path) for path in settings["data"].values()]
    run = describe_run(settings, hash_inputs(paths), 1, models=models or {})
    output_dir = input_path(settings["output_dir"])
    state = open_run_dir(output_dir, run, False, defaults)
    (output_dir / "checkpoint-5").mkdir(exist_ok=True)
    return state


def absolute(home, settings: dict) -> dict:
    """The settings with absolute paths into a home, as a config on a Drive has them."""
    data = {key: str(home / path) for key, path in settings["data"].items()}
    return {"output_dir": str(home / settings["output_dir"]), "data": data}


# --- the same run elsewhere


@pytest.mark.parametrize("how", ["moved", "copied"])
@pytest.mark.parametrize("is_absolute", [False, True])
def test_a_home_that_was_moved_or_copied_is_resumed(place, how, is_absolute):
    home = place("a")
    assert begin(absolute(home, SETTINGS) if is_absolute else SETTINGS) == "new"
    {"moved": shutil.move, "copied": shutil.copytree}[how](home, home.with_name("b"))
    home = place("b")
    assert begin(absolute(home, SETTINGS) if is_absolute else SETTINGS) == "resume"


def test_inputs_are_recorded_relative_to_the_home(place):
    home = place("a")
    assert list(hash_inputs([home / "data/train.jsonl"])) == ["data/train.jsonl"]
    # Outside of it without the user's name: from a folder nearby, or from the user's own.
    assert portable_path(home.parent / "other.jsonl") == "../other.jsonl"
    assert portable_path(Path.home() / "models/gemma") == "~/models/gemma"
    assert input_path("~/models/gemma") == Path.home() / "models/gemma"
    # A folder whose name begins like that of the home is not in it.
    assert portable_path(home.with_name("ab") / "x") == "../ab/x"


@pytest.mark.parametrize("key", ["a/data/{}.jsonl", "/content/drive/a/data/{}.jsonl", "data/{}.jsonl"])
def test_a_manifest_with_inputs_under_other_paths_is_resumed(place, key):
    home = place("a")
    begin(SETTINGS)
    old = read_json(home / "sft/run.json")
    # An earlier version wrote paths as they were resolved, and no models.
    old["inputs"] = {key.format(split): old["inputs"][f"data/{split}.jsonl"] for split in ("train", "val")}
    del old["models"]
    write_json(home / "sft/run.json", old)
    assert begin(SETTINGS, models={"base": "1f67"}) == "resume"
    (home / "data/val.jsonl").write_text("other rows\n")
    with pytest.raises(UsageError, match="inputs.*val.jsonl"):
        begin(SETTINGS)


def test_a_complete_run_is_complete_elsewhere(place):
    home = place("a")
    begin(SETTINGS)
    close_run_dir(home / "sft", read_json(home / "sft/run.json"))
    shutil.copytree(home, home.with_name("b"))
    place("b")
    assert begin(SETTINGS) == "complete"


def test_a_run_without_output_leaves_nothing_to_resume(place):
    home = place("a")
    begin(SETTINGS)
    (home / "sft/checkpoint-5").rmdir()
    (home / "sft/train_ids.txt").write_text("q1\n")
    # Other settings may take the place of a run that stopped before its first checkpoint.
    assert begin({**SETTINGS, "seed": 2}) == "new"
    with pytest.raises(UsageError, match="seed"):
        begin(SETTINGS)


def test_a_setting_that_was_added_since_counts_with_its_default(place):
    place("a")
    begin({**SETTINGS, "training": {"lr": 1}})
    defaults = {"optim": "adamw", "training": {"lr": 2, "max_norm": 1.0}, "data": {"val": None}}
    newer = {**SETTINGS, "optim": "adamw", "training": {"lr": 1, "max_norm": 1.0}}
    with pytest.raises(UsageError, match=r"training.max_norm \(was 1.0, now 0.5\)"):
        begin({**newer, "training": {"lr": 1, "max_norm": 0.5}}, defaults=defaults)
    assert begin(newer, defaults=defaults) == "resume"


# --- other runs


def test_changed_and_swapped_files_are_other_settings(place):
    home = place("a")
    begin(SETTINGS)
    swapped = {"train_path": "data/val.jsonl", "val_path": "data/train.jsonl"}
    with pytest.raises(UsageError, match=r"data.train_path \(was 'data/train.jsonl', now 'data/val.jsonl'\)"):
        begin({**SETTINGS, "data": swapped})
    (home / "data/train.jsonl").write_text("other rows\n")
    with pytest.raises(UsageError, match=r"inputs.data/train.jsonl \(was '\w+', now '\w+'\)"):
        begin(SETTINGS)


def test_a_model_replaced_under_its_path_is_other_settings(place):
    home = place("a")
    settings = {**SETTINGS, "model_name": str(home / "base")}
    assert begin(settings, {"base": "1f67"}) == "new"
    with pytest.raises(UsageError, match=r"models.base \(was '1f67', now '22ab'\)"):
        begin(settings, {"base": "22ab"})
    # Moved with its home, or elsewhere alone: the same model.
    assert begin({**settings, "model_name": "/b/base"}, {"base": "1f67"}) == "resume"
    assert begin({**settings, "model_name": "/c/other"}, {"/c/other": "1f67"}) == "resume"


# --- which model it is


def write_model(folder, seed: int, parts: int = 1, **config):
    """A model's directory in real formats: weights in so many files, and a config."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(seed)
    tensors = {f"layer.{i}.weight": numbers.normal(size=(4, 6)).astype("float32") for i in range(4)}
    for part in range(parts):
        names = sorted(tensors)[part::parts]
        save_file({name: tensors[name] for name in names}, folder / f"model-{part}.safetensors")
    write_json(folder / "config.json", {"model_type": "llama", **config})
    return folder


def write_checkpoint(folder, base: str, **facts):
    """An adapter's directory, as train_sft.py records it."""
    folder.mkdir(parents=True)
    save_file({"lora": np.ones((2, 2), dtype="float32")}, folder / "adapter_model.safetensors")
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": base})
    write_json(folder / "run.json", {"base_model": base, "base_revision": None, **facts})
    return str(folder)


@pytest.fixture(params=["whole", "parts"])
def hashing(request, monkeypatch):
    """Small weights are hashed whole; large ones as here, in parts of every tensor."""
    if request.param == "parts":
        monkeypatch.setattr(fingerprint, "WHOLE_BYTES", 0)
        monkeypatch.setattr(fingerprint, "_PART_BYTES", 8)
    fingerprint._hash_weights.cache_clear()


def test_weights_are_known_again_wherever_and_however_they_are_saved(tmp_path, hashing):
    first = fingerprint.weights_hash(write_model(tmp_path / "a", 1))
    assert fingerprint.weights_hash(write_model(tmp_path / "elsewhere/b", 1, parts=3)) == first
    assert fingerprint.weights_hash(write_model(tmp_path / "c", 2)) != first
    assert fingerprint.weights_hash(tmp_path) is None
    # Saved again by another version of the library, and with another setting.
    plain = fingerprint.files_hash(tmp_path / "a")
    again = write_model(tmp_path / "d", 1, transformers_version="9", _name_or_path="/x")
    assert fingerprint.files_hash(again) == plain
    assert fingerprint.files_hash(write_model(tmp_path / "e", 1, rope_theta=9)) != plain


def test_a_model_replaced_under_its_path_has_another_key(tmp_path, hashing):
    before = model_key(str(write_model(tmp_path / "m", 1)))
    assert model_key(str(write_model(tmp_path / "m", 1))) == before
    assert model_key(str(write_model(tmp_path / "m", 2))) != before
    write_model(tmp_path / "m", 1)
    (tmp_path / "m/tokenizer.json").write_text("{}")
    assert model_key(str(tmp_path / "m")) != before
    # Cards and manifests change without the model.
    key = model_key(str(tmp_path / "m"))
    (tmp_path / "m/README.md").write_text("A card")
    assert model_key(str(tmp_path / "m")) == key
    assert model_key("owner/name") == "owner/name"


def test_a_checkpoint_counts_with_its_base(tmp_path):
    base = write_model(tmp_path / "base", 1)
    checkpoint = write_checkpoint(tmp_path / "sft/checkpoint-best", str(base))
    before = model_key(checkpoint)
    moved = base.rename(tmp_path / "moved")
    assert model_key(checkpoint, str(moved)) == before
    write_model(moved, 2)
    assert model_key(checkpoint, str(moved)) != before


def test_a_file_that_is_no_safetensors_is_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match="model.safetensors: not a safetensors file; .*download"):
        fingerprint.weights_hash(tmp_path)


# --- the base of a checkpoint


@pytest.mark.parametrize("records_weights", [True, False])
def test_only_the_base_that_a_checkpoint_was_trained_on_is_taken(tmp_path, records_weights):
    base = write_model(tmp_path / "a", 1)
    other = write_model(tmp_path / "b", 2)
    facts = {"base_weights": fingerprint.weights_hash(base)} if records_weights else {}
    checkpoint = write_checkpoint(tmp_path / "sft/checkpoint-best", str(base), **facts)
    assert base_for(checkpoint, None) == base_for(checkpoint, str(base)) == str(base)
    message = f"--base-model {other}: {checkpoint} was trained on {base}, which is another model; leave"
    with pytest.raises(UsageError, match=message):
        base_for(checkpoint, str(other))
    # The same model under another name, and in other files.
    copy = write_model(tmp_path / "copy", 1, parts=2)
    assert base_for(checkpoint, str(copy)) == str(copy)


def test_a_base_that_moved_is_found_by_the_flag(tmp_path):
    base = write_model(tmp_path / "a", 1)
    facts = {"base_weights": fingerprint.weights_hash(base)}
    checkpoint = write_checkpoint(tmp_path / "sft/checkpoint-best", str(base), **facts)
    moved = base.rename(tmp_path / "moved")
    with pytest.raises(DataError, match=f"its base model {base} is no longer there; .* with --base-model"):
        base_for(checkpoint, None)
    assert base_for(checkpoint, str(moved)) == str(moved)
    with pytest.raises(UsageError, match="which is another model"):
        base_for(checkpoint, str(write_model(tmp_path / "b", 2)))
    with pytest.raises(DataError, match="nowhere: no such model directory"):
        base_for(checkpoint, str(tmp_path / "nowhere"))
    # Another model in its place.
    write_model(base, 2)
    with pytest.raises(DataError, match="has other weights than the base model it was trained on"):
        base_for(checkpoint, None)


def test_a_base_that_nothing_tells_is_taken_with_a_note(tmp_path, capsys):
    # A checkpoint of an earlier version, whose base is gone.
    checkpoint = write_checkpoint(tmp_path / "checkpoint-best", "/gone/base")
    base = str(write_model(tmp_path / "a", 1))
    assert base_for(checkpoint, base) == base
    check_loaded_base(checkpoint, base)
    assert f"using {base} as the base of {checkpoint}; /gone/base is not here" in capsys.readouterr().err


def test_two_names_of_the_hub_are_two_models(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint-best", "google/gemma-2-9b")
    assert base_for(checkpoint, None) == base_for(checkpoint, "google/gemma-2-9b") == "google/gemma-2-9b"
    with pytest.raises(UsageError, match="was trained on google/gemma-2-9b"):
        base_for(checkpoint, "google/gemma-2-2b")
    # A copy of it on this machine may be it.
    copy = str(write_model(tmp_path / "a", 1))
    assert base_for(checkpoint, copy) == copy


def test_a_relative_base_is_found_in_a_copied_home(place):
    home = place("a")
    base = write_model(home / "models/base", 1)
    checkpoint = write_checkpoint(home / "sft/checkpoint-best", portable_path(base))
    assert base_for(checkpoint, None) == "models/base"
    shutil.move(home, home.with_name("b"))
    home = place("b")
    assert base_for(str(home / "sft/checkpoint-best"), None) == "models/base"
    assert base_for(str(home / "sft/checkpoint-best"), str(home / "models/base"))


def test_a_full_model_without_a_manifest_takes_any_base(tmp_path):
    model = str(write_model(tmp_path / "m", 1))
    assert base_for(model, None) is None
    assert base_for(model, "google/gemma-2-9b") == "google/gemma-2-9b"


def test_a_reward_head_reads_features_of_its_own_base_alone(tmp_path):
    base = write_model(tmp_path / "a", 1)
    saved = {"base_model": str(base), "base_weights": fingerprint.weights_hash(base)}
    other = str(write_model(tmp_path / "other", 2))
    copy = str(write_model(tmp_path / "copy", 1))
    # --score takes the head's base, whatever the YAML names; --validate-only refuses another.
    assert base_of_head(tmp_path / "rm/best", saved, other) == str(base)
    with pytest.raises(UsageError, match=f"base_model={other}: .*best was trained on {base}"):
        check_head_base(tmp_path / "rm/best", saved, other)
    check_head_base(tmp_path / "rm/best", saved, copy)
    shutil.rmtree(base)
    assert base_of_head(tmp_path / "rm/best", saved, copy) == copy
    with pytest.raises(DataError, match="is no longer there; .* with --set base_model=DIR"):
        base_of_head(tmp_path / "rm/best", saved, other)
    # Another model in its place, and a head of an earlier version, which does not tell.
    write_model(base, 2)
    with pytest.raises(DataError, match="has other weights than"):
        base_of_head(tmp_path / "rm/best", saved, other)
    assert base_of_head(tmp_path / "rm/best", {"base_model": str(base)}, copy) == str(base)


def test_the_precision_of_the_judge_changes_no_judgement_of_the_verifier(tmp_path):
    flags = {
        "judge_model": None,
        "judge_use_8bit": False,
        "judge_use_4bit": False,
        "judge_template": "default",
    }
    plain = judge_settings("verifier", flags, str)
    named = {**flags, "judge_use_8bit": True, "judge_model": "owner/name", "judge_template": "simple"}
    assert judge_key(judge_settings("verifier", named, str)) == judge_key(plain)
    # A judge that is a model counts by what it is, not by where it is.
    keys = []
    for place, seed in (("a", 1), ("b", 1), ("c", 2)):
        model = str(write_model(tmp_path / place, seed))
        keys.append(judge_key(judge_settings("llm", {**flags, "judge_model": model}, str)))
    assert keys[0] == keys[1] != keys[2]
    assert judge_key(judge_settings("llm", named, str)) != judge_key(
        judge_settings("llm", {**named, "judge_use_8bit": False}, str)
    )


# --- test data


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, rows)
    return path


def row(name: str, group: str | None = None, **metadata) -> dict:
    chunks = [{"title": f"Page {group or name}", "text": "A text."}]
    return {
        "id": name,
        "question": f"What is {name}?",
        "group": group or name,
        "evidence_chunks": chunks,
        "metadata": metadata,
    }


def refusal_of(path, **more) -> str:
    """The message that refuses a file; empty if it is taken."""
    rows = [found for _, found in read_jsonl(path)]
    try:
        assert refuse_test_data(path, rows, False, **more) is None
    except UsageError as error:
        # What is refused is taken with the flag, with a warning.
        warning = refuse_test_data(path, rows, True, **more)
        assert warning and warning.startswith("warning: ")
        return str(error)
    return ""


def test_test_data_is_refused_under_any_name(place, tmp_path):
    home = place("a")
    test = write_rows(home / "data/processed/test.jsonl", [row("q1"), row("q2", group="g")])
    assert "test.jsonl: it is a test split; name other data, or add --allow-test" in refusal_of(test)
    assert "it is a test split" in refusal_of(write_rows(tmp_path / "mine/test.jsonl", [row("x")]))
    # A bad row of the test file hides none of the others.
    bad = [{"id": ["q"], "question": "?", "group": "q"}, {"id": "q", "question": "?", "group": []}]
    write_rows(test, [*bad, row("q1"), row("q2", group="g")])
    copy = write_rows(tmp_path / "copy.jsonl", [row("x"), row("q1")])
    assert f"1 of its 2 samples are of the test split {test}, e.g. q1" in refusal_of(copy)
    # A question of the same leakage group, under another id.
    assert "e.g. q3" in refusal_of(write_rows(tmp_path / "near.jsonl", [row("q3", group="g")]))
    assert refusal_of(write_rows(home / "data/processed/train.jsonl", [row("x"), row("y")])) == ""
    # Another data set, whose ids and groups are counted from the same number.
    other = row("q1") | {"question": "Other?", "evidence_chunks": [{"title": "", "text": "Other."}]}
    assert refusal_of(write_rows(tmp_path / "other.jsonl", [other])) == ""


def test_test_splits_of_other_folders_are_looked_at(place, tmp_path):
    home = place("a")
    write_rows(home / "mine/test.jsonl", [row("q1")])
    train = write_rows(home / "mine/train.jsonl", [row("x")])
    copy = write_rows(tmp_path / "copy.jsonl", [row("q1")])
    assert refusal_of(copy) == ""
    assert "e.g. q1" in refusal_of(copy, near=train)
    # The build that the checkpoint was trained on.
    checkpoint = write_checkpoint(home / "sft/checkpoint-best", "base")
    write_json(home / "sft/run.json", {"settings": {"data": {"train_path": "mine/train.jsonl"}}})
    assert "e.g. q1" in refusal_of(copy, checkpoint=checkpoint)


def test_evaluation_only_data_is_refused(place, tmp_path):
    home = place("a")
    rows = write_rows(home / "ext/processed/all.jsonl", [row("x")])
    assert refusal_of(rows) == ""
    write_json(rows.parent / "run.json", {"settings": {"config": {"evaluation_only": True}}})
    assert "it is of an evaluation-only build" in refusal_of(rows)
    marked = write_rows(tmp_path / "copy.jsonl", [row("x"), row("y", evaluation_only=True)])
    assert "1 of its 2 samples are for evaluation only, e.g. y" in refusal_of(marked)


def test_samples_that_were_trained_on_are_counted(place):
    home = place("a")
    checkpoint = write_checkpoint(home / "sft/checkpoint-best", "base")
    samples = [row("q1"), row("q2"), row("q3")]
    assert trained_on_warning("org/model", samples) is None
    assert "train_ids.txt is missing" in trained_on_warning(checkpoint, samples)
    (home / "sft/train_ids.txt").write_text("q1\nq3\nq9\n")
    for name in (checkpoint, "sft/checkpoint-best"):
        assert "2 of 3 samples are in the training data of" in trained_on_warning(name, samples)
    assert trained_on_warning(checkpoint, [row("q2")]) is None
    assert "1 of 2 val samples" in shared_val_warning(samples, [row("q3"), row("z")])
    assert shared_val_warning(samples, [row("z")]) is None


@pytest.mark.parametrize(
    "text",
    [None, b"", b"q1\nq3", b"\x00\x00\x00", b"q1\n\x00\x00\n", b"\xff\xfeq1\n", b"q3\n", b"q1\nq2\nq9\n"],
)
def test_where_nothing_tells_what_was_trained_on_the_evaluation_says_so(place, text):
    home = place("a")
    checkpoint = write_checkpoint(home / "sft/checkpoint-best", "base")
    run = home / "sft/checkpoint-best/run.json"
    write_json(run, {**read_json(run), "train_ids": ids_hash("q1\nq3\n")})
    ids = home / "sft/train_ids.txt"
    ids.write_bytes(b"q1\nq3\n")
    assert "1 of 1 samples" in trained_on_warning(checkpoint, [row("q1")])
    assert trained_on_warning(checkpoint, [row("z")]) is None
    ids.unlink()
    if text is not None:
        ids.write_bytes(text)
    said = trained_on_warning(checkpoint, [row("q1"), row("z")])
    assert "so nothing tells how many of the 2 samples it was trained on" in said
    assert ("is missing" if text is None else "is not as it was written") in said


# --- models of the hub


def test_a_hub_model_is_compared_by_its_cached_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    cached = tmp_path / "hub/models--owner--first"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text("abc")
    snapshot = write_model(cached / "snapshots/abc", 1)
    copy = str(write_model(tmp_path / "copy", 1, parts=2))
    checkpoint = write_checkpoint(tmp_path / "checkpoint-best", "owner/first")
    assert base_for(checkpoint, copy) == copy
    with pytest.raises(UsageError, match="was trained on owner/first, which is another model"):
        base_for(checkpoint, str(write_model(tmp_path / "other", 2)))
    # The key in caches is the id, so that it is the same before and after the download.
    assert model_key("owner/first") == "owner/first"
    # An unfinished download tells nothing.
    index = {"weight_map": {"a": "model-0.safetensors", "b": "model-1.safetensors"}}
    write_json(snapshot / "model.safetensors.index.json", index)
    assert base_for(checkpoint, str(tmp_path / "other")) == str(tmp_path / "other")
