"""The signature of a cache of candidates: everything that changes their texts is in it, and no place is."""

import json
import os

import pytest

import make_prefs
import preferences.candidate_settings as candidates
import preferences.judgement_names as names
from make_prefs import build_parser
from models.distributed import Shards
from preferences.cache import GENERATION_DEFAULTS, cache_key, find_cache, given_settings
from preferences.cache_states import claim_cache
from preferences.judges import JUDGES, judge_candidates, judge_key
from tests.test_places import write_checkpoint, write_model
from utils.errors import UsageError
from utils.jsonl import sha256_value, write_json, write_jsonl

TEMPLATES = {"default": "{evidence} {question}", "simple": "{question} {evidence}"}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with a base model, an adapter on it, and a data file; the texts of the templates."""
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    monkeypatch.setattr(candidates, "choose_dtype", lambda: "torch.bfloat16")
    base = write_model(tmp_path / "base", 1, eos_token_id=1)
    checkpoint = write_checkpoint(tmp_path / "sft/checkpoint-best", str(base))
    for folder in (base, tmp_path / "sft/checkpoint-best"):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_text("{}")
    (tmp_path / "sft/train_ids.txt").write_text("a\nb")
    (tmp_path / "data.jsonl").write_text('{"id": "a"}\n')
    biases = {"refuse_claim": 0.1, "refuse_question": 0.2, "refuted": 0.3}
    fitted = {"biases": biases, "calibration": {}}
    write_json(tmp_path / "sft/calibration.json", {"decisions": fitted})
    return checkpoint


def settings_of(checkpoint: str, *flags: str, templates: dict = TEMPLATES) -> dict:
    """The settings of a cache, as make_prefs.py makes them of its flags."""
    args = build_parser().parse_args(["--sft-model", checkpoint, "--data-path", "data.jsonl", *flags])
    return candidates.generation_settings(vars(args), templates.__getitem__)


def signature(checkpoint: str, *flags: str, **templates) -> str:
    return sha256_value(cache_key(settings_of(checkpoint, *flags, **templates)))


# Each flag that decides a text, with another value than the default.
FLAGS = {
    "max_samples": "7",
    "models": "sft,base",
    "n_generations": "3",
    "max_new_tokens": "9",
    "max_input_tokens": "99",
    "temperature": "0.9",
    "top_p": "0.5",
    "top_k": "5",
    "use_8bit": None,
    "use_4bit": None,
    "template": "simple",
    "seed": "7",
    "unseen_only": None,
    "attn_impl": "eager",
    "engine": "vllm",
    "decisions": "fitted",
}


def as_flags(name: str, value: str | None) -> list[str]:
    flag = "--" + name.replace("_", "-")
    return [flag] if value is None else [flag, value]


def test_every_flag_of_a_cache_is_tried():
    assert set(GENERATION_DEFAULTS) <= set(FLAGS)


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_that_changes_the_texts_changes_the_signature(name, world):
    before = signature(world)
    assert signature(world, *as_flags(name, FLAGS[name])) != before
    assert signature(world) == before


def test_flags_that_change_no_text_change_no_signature(world):
    before = signature(world)
    # "auto" and "ours" are what happens without the flag.
    others = ("--batch-size 3 --judge-batch-size 3 --attn-impl auto --engine ours --min-margin 0.3").split()
    assert signature(world, *others) == before
    assert signature(world, "--output-mode", "rich", "--judge", "verifier") == before


# Each file that decides a text: its place, and its new content.
FILES = {
    "data": ("data.jsonl", '{"id": "b"}\n'),
    "tokenizer of the base": ("base/tokenizer.json", '{"a": 1}'),
    "its settings": ("base/tokenizer_config.json", '{"chat_template": "x"}'),
    "chat template": ("base/chat_template.jinja", "x"),
    "named chat template": ("base/additional_chat_templates/rag.jinja", "x"),
    "sentencepiece": ("base/spiece.model", "x"),
    "added tokens": ("base/added_tokens.json", "{}"),
    "tokenizer of the adapter": ("sft/checkpoint-best/tokenizer.json", '{"a": 1}'),
    "chat template of the adapter": ("sft/checkpoint-best/chat_template.jinja", "x"),
    "end tokens": ("base/generation_config.json", '{"eos_token_id": [1, 7]}'),
    "config": ("base/config.json", '{"model_type": "llama", "eos_token_id": 1, "rope_theta": 9}'),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_changes_the_texts_changes_the_signature(name, world, tmp_path):
    before = signature(world)
    place, text = FILES[name]
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert signature(world) != before


def test_end_tokens_that_the_config_names_too_change_no_signature(world, tmp_path):
    before = signature(world)
    write_json(tmp_path / "base/generation_config.json", {"eos_token_id": 1, "temperature": 0.6})
    assert signature(world) == before


def test_weights_that_are_replaced_under_their_path_change_the_signature(world, tmp_path):
    before = signature(world)
    adapter = next((tmp_path / "sft/checkpoint-best").glob("*.safetensors"))
    content = adapter.read_bytes()
    times = adapter.stat()
    adapter.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    of_adapter = signature(world)
    assert of_adapter != before
    adapter.write_bytes(content)
    os.utime(adapter, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert signature(world) == before
    write_model(tmp_path / "base", 2, eos_token_id=1)
    assert len({before, of_adapter, signature(world)}) == 3


def test_a_policy_is_known_by_its_weights_and_not_by_its_place(world, tmp_path):
    before = signature(world)
    write_model(tmp_path / "policy", 3, eos_token_id=1)
    write_model(tmp_path / "moved", 3, eos_token_id=1)
    write_model(tmp_path / "other", 4, eos_token_id=1)
    names = ("policy", "moved", "other")
    policy, moved, other = (signature(world, "--policy-model", str(tmp_path / name)) for name in names)
    assert policy == moved and len({before, policy, other}) == 3
    settings = settings_of(world, "--policy-model", str(tmp_path / "policy"))
    assert settings["models"] == "sft,policy"


def test_templates_precision_and_fitted_biases_change_the_signature(world, tmp_path, monkeypatch):
    found = {signature(world)}
    found.add(signature(world, templates={"default": "{evidence}\n{question}"}))
    found.add(signature(world, "--decisions", "fitted"))
    biases = {"refuse_claim": 0.5, "refuse_question": 0.2, "refuted": 0.3}
    fitted = {"biases": biases, "calibration": {}}
    write_json(tmp_path / "sft/calibration.json", {"decisions": fitted})
    found.add(signature(world, "--decisions", "fitted"))
    monkeypatch.setattr(candidates, "choose_dtype", lambda: "torch.float32")
    found.add(signature(world))
    assert len(found) == 5


def test_other_seen_samples_count_where_they_decide(world, tmp_path):
    before = [signature(world), signature(world, "--unseen-only")]
    (tmp_path / "sft/train_ids.txt").write_text("a\nb\nc")
    assert signature(world) == before[0] and signature(world, "--unseen-only") != before[1]


def test_a_moved_folder_keeps_its_signature(world, tmp_path, monkeypatch):
    before = signature(world)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("base", "sft", "data.jsonl"):
        (tmp_path / name).rename(moved / name)
    monkeypatch.setenv("FACTUALITY_HOME", str(moved))
    found = signature(str(moved / "sft/checkpoint-best"), "--base-model", str(moved / "base"))
    assert found == before


def test_caches_of_earlier_versions_are_judged_still(world, tmp_path):
    write_json(tmp_path / "base/generation_config.json", {"eos_token_id": [1, 7]})
    settings = settings_of(world, "--unseen-only")
    assert settings["base_ends"] == settings["sft_ends"] == [7] and settings["train_ids"]
    early = {name: settings[name] for name in settings if name not in ("sft_ends", "base_ends", "train_ids")}
    write_json(
        tmp_path / "caches/early/manifest.json",
        {"status": "complete", "settings": early, "created": 1.0, "started": ""},
    )
    flags = ["--sft-model", world, "--data-path", "data.jsonl", "--unseen-only", "--phase", "judge"]
    given = given_settings(vars(build_parser().parse_args(flags)), tmp_path / "data.jsonl")
    assert find_cache(tmp_path / "caches", given, None) == "early"


def test_prompts_are_as_long_as_in_training_unless_a_flag_says_otherwise(world, tmp_path):
    old = settings_of(world)
    # What earlier versions took, and still where no run.json tells.
    assert old["max_input_tokens"] == 2048
    write_json(tmp_path / "caches/old/manifest.json", {"status": "complete", "settings": old, "created": 1.0})
    write_json(tmp_path / "sft/checkpoint-best/run.json", {"max_prompt_tokens": 1400})
    assert settings_of(world)["max_input_tokens"] == 1400
    assert settings_of(world, "--max-input-tokens", "99")["max_input_tokens"] == 99
    flags = ["--sft-model", world, "--data-path", "data.jsonl", "--phase", "judge"]
    given = given_settings(vars(build_parser().parse_args(flags)), tmp_path / "data.jsonl")
    assert find_cache(tmp_path / "caches", given, None) == "old"


def test_judgements_are_named_by_precision_and_commit_and_older_ones_are_read(tmp_path, monkeypatch):
    cache = tmp_path / "prefs/cache/abc"
    model = "owner/name"
    commits = {model: "1" * 40}
    dtypes = ["torch.float32"]
    monkeypatch.setattr(names, "choose_dtype", lambda: dtypes[0])
    monkeypatch.setattr(names, "hub_revisions", lambda *models: {one: commits[one] for one in models})
    settings = {"judge": "llm", "model": model, "model_key": model}

    def named(overwrite=False):
        version = names.judge_version(JUDGES["llm"], model)
        return names.name_judgements(cache, settings, version, {"min_margin": 0.1}, overwrite)

    first, facts = named()
    assert facts == settings | {"precision": "torch.float32", "revisions": commits}
    dtypes[0] = "torch.bfloat16"
    assert named()[0] != first
    dtypes[0] = "torch.float32"
    commits[model] = "2" * 40
    assert named()[0] != first

    # Of an earlier version: read, unless it is said to be of another commit, or is to be made anew.
    earlier = sha256_value(judge_key(settings) | {"min_margin": 0.1})[:8]
    write_json(cache / f"judgements_{earlier}.jsonl", {})
    assert named() == (earlier, settings)
    assert named(overwrite=True)[0] != earlier
    stats = {"n_pairs": 1, "n_samples": 1, "pairs_by_models": {}, "mean_margin": 0.5}
    stats |= {"order_consistency": None, "settings": {"judge": "llm", "cache": "abc"}}
    path = tmp_path / f"prefs/preference_stats_abc-{earlier}.json"
    write_json(path, stats | {"revisions": {model: "2" * 40}})
    assert named()[0] == earlier
    write_json(path, stats | {"revisions": {model: "1" * 40}})
    assert named()[0] != earlier
    # The verifier has no model.
    assert names.judge_version(JUDGES["verifier"], None) == {}


def test_another_margin_takes_the_judgements_that_are_there(world, tmp_path, capsys):
    cache = tmp_path / "prefs/cache/abc"
    settings = {
        "judge": "llm",
        "model": "some/place",
        "model_key": "owner/name",
        "precision": "torch.float32",
    }
    rows = [{"id": "a", "llm": [0.9, 0.1]}]
    write_jsonl(cache / "judgements_11111111.jsonl", rows)
    pairing = {"min_margin": 0.1, "output_mode": "lite"}
    stats_path = tmp_path / "prefs/preference_stats_abc-11111111.json"
    write_json(stats_path, {"settings": {**settings, **pairing, "cache": "abc"}})
    # A model that was moved is the same judge.
    found = names.same_judgements(cache, settings | {"model": "another/place"}, pairing)
    assert found == cache / "judgements_11111111.jsonl"

    def no_model():
        raise AssertionError("nothing is left to judge")

    path = cache / "judgements_22222222.jsonl"
    jobs = [({"id": "a"}, [{}, {}])]
    assert judge_candidates(jobs, JUDGES["llm"], no_model, path, Shards(), found) == {"a": rows[0]}
    assert "judgements of judgements_11111111.jsonl are taken" in capsys.readouterr().out

    for other in ({"model_key": "owner/other"}, {"precision": "torch.bfloat16"}, {"judge": "hybrid"}):
        assert names.same_judgements(cache, settings | other, pairing) is None
    (cache / "judgements_11111111.jsonl").unlink()
    assert names.same_judgements(cache, settings, pairing) is None


@pytest.mark.parametrize(
    "flags, n_texts",
    [("", 4), ("--temperature 0", 4), ("--n-generations 3", 6), ("--policy-model sft/checkpoint-best", 8)],
)
def test_the_plan_counts_the_candidates_of_every_model(flags, n_texts, world, sample, tmp_path, capsys):
    write_jsonl(tmp_path / "data.jsonl", [sample, sample | {"id": "popqa:2"}])
    plan = ["--sft-model", world, "--data-path", "data.jsonl", "--phase", "generate", "--dry-run"]
    make_prefs.main([*plan, *flags.split()])
    assert f"would generate {n_texts} candidates" in capsys.readouterr().out


def test_another_commit_of_a_hub_model_is_noticed(tmp_path):
    cache = tmp_path / "abc"
    run = {"settings": {}, "status": "complete", "base_revision": "1" * 40}
    write_json(cache / "manifest.json", run)
    assert claim_cache(cache, False, "1" * 40)
    # Without a copy on this machine nothing tells; a local model has its weights in the signature.
    assert claim_cache(cache, False)
    with pytest.raises(UsageError, match="of commit 111111111111 of the base model.* add --overwrite"):
        claim_cache(cache, False, "2" * 40)
    assert not claim_cache(cache, True, "2" * 40)
    assert json.loads((tmp_path / ".abc.old/manifest.json").read_text()) == run
