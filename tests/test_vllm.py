"""The vLLM engine against ours, through a stand-in that takes the argument names of vLLM alone.

vLLM itself needs a GPU. What is tested: the same prompts go in, the same tokens and probabilities come out,
and every name that is passed exists in the versions whose sources were read (tests/vllm_names.json).
"""

import argparse
import importlib.util
import json
import random
import re
import sys
from pathlib import Path

import pytest
import regex
import torch

import evaluate_sft_fast_robust
import make_prefs
import robustness
from generation import constrained, schema_pattern, schema_states, vllm_engine
from generation.answering import predict, sft_and_base
from generation.engine import GenerationSettings
from generation.sampling import Sampling
from generation.schema_pattern import OPENING, completion_pattern
from generation.schema_states import DONE, START, step
from generation.vllm_engine import VllmModel
from models.choices import LoadOptions, check_engine
from models.loading import load_model, load_tokenizer
from preferences import cache
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from tests import vllm_names
from tests.conftest import tiny_config
from utils.completions import parse_completion, render_completion
from utils.errors import DataError, StageError, UsageError
from utils.text import REFUSAL

STUB = str(Path(__file__).with_name("vllm_stub"))
OPTIONS = LoadOptions(bf16=False, engine="vllm", max_length=1600)


@pytest.fixture
def vllm(monkeypatch):
    """The stand-in, importable as vllm."""
    monkeypatch.syspath_prepend(STUB)
    yield importlib.import_module("vllm")
    for name in [name for name in sys.modules if name.split(".")[0] == "vllm"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def adapter_dir(tiny_gemma_dir, tokenizer, tmp_path_factory):
    """A PEFT checkpoint with random adapters on the tiny base model."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(1)
    base = load_model(str(tiny_gemma_dir), LoadOptions(bf16=False))
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(base, lora).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def prompts(tokenizer, samples):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    return {sample["id"]: builder.build(sample) for sample in samples[:5]}


def both_models(checkpoint, options, prompts, settings, base_model=None) -> dict[str, dict]:
    """Model -> id -> prediction row, of the checkpoint and of its base."""
    found: dict[str, dict] = {}
    with sft_and_base(checkpoint, base_model, options) as models:
        for name, use in (("sft", models.sft), ("base", models.base)):
            with use():
                batches = predict(models.model, models.tokenizer, prompts, name, settings)
                found[name] = {row["id"]: row for batch in batches for row in batch}
    return found


def assert_same(ours: dict, theirs: dict) -> None:
    for name, rows in ours.items():
        assert list(theirs[name]) == list(theirs["sft"]), "vLLM's rows come in the order of the prompts"
        for key, row in rows.items():
            other = theirs[name][key]
            for field in ("id", "model", "completion", "shown", "n_tokens"):
                assert other[field] == row[field], (name, field)
            assert other["logp"] == pytest.approx(row["logp"], abs=1e-3)
            assert other["probability"] == pytest.approx(row["probability"], rel=1e-3)


def test_free_answers_and_probabilities_are_those_of_our_engine(vllm, adapter_dir, prompts):
    settings = GenerationSettings(batch_size=4, max_new_tokens=24)
    ours = both_models(adapter_dir, LoadOptions(bf16=False), prompts, settings)
    theirs = both_models(adapter_dir, OPTIONS, prompts, settings)
    assert_same(ours, theirs)
    # Or the test would not notice a base model that answers with the adapter.
    assert [r["completion"] for r in ours["sft"].values()] != [r["completion"] for r in ours["base"].values()]


def test_the_adapter_and_its_base_are_one_engine_with_cached_prefixes(
    vllm, adapter_dir, tiny_gemma_dir, prompts
):
    vllm.LLM.made.clear()
    both_models(adapter_dir, OPTIONS, prompts, GenerationSettings(batch_size=4, max_new_tokens=2))
    [llm] = vllm.LLM.made
    assert llm.arguments == {
        "model": str(tiny_gemma_dir),
        "tokenizer": adapter_dir,
        "dtype": "float32",
        "trust_remote_code": False,
        "max_model_len": 1600,
        "enable_prefix_caching": True,
        "enable_lora": True,
        # The least that vLLM takes and rank 4 fits.
        "max_lora_rank": 8,
    }
    assert [call["lora"] and call["lora"].lora_path for call in llm.calls] == [adapter_dir, None]
    for call in llm.calls:
        assert [prompt["prompt_token_ids"] for prompt in call["prompts"]] == [p.ids for p in prompts.values()]


def test_a_merged_checkpoint_and_its_base_take_turns(vllm, adapter_dir, tiny_gemma_dir, prompts, tmp_path):
    vllm.LLM.made.clear()
    merged = load_model(adapter_dir, LoadOptions(bf16=False)).merge_and_unload()
    merged.save_pretrained(tmp_path)
    load_tokenizer(adapter_dir).save_pretrained(tmp_path)
    settings = GenerationSettings(batch_size=4, max_new_tokens=6)
    found = []
    for checkpoint, base in ((adapter_dir, None), (str(tmp_path), str(tiny_gemma_dir))):
        found.append(both_models(checkpoint, OPTIONS, prompts, settings, base_model=base))
    assert_same(*found)
    _, sft, base_llm = vllm.LLM.made
    assert (sft.arguments["model"], base_llm.arguments["model"]) == (str(tmp_path), str(tiny_gemma_dir))
    assert "enable_lora" not in sft.arguments
    # The first process ended before the second model was loaded, and both at the end.
    assert base_llm.n_running_before == 0
    assert not any(llm.llm_engine.engine_core.is_running for llm in vllm.LLM.made)


class Scripted:
    """An LLM whose only completion is a text, which it gives up to each brace, as vLLM stops there."""

    def __init__(self, tokenizer, text):
        self.ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        self.is_end = ["}" in tokenizer.decode([i]) or i == tokenizer.eos_token_id for i in self.ids]
        self.calls = []

    def generate(self, prompts, sampling_params, use_tqdm, lora_request):
        self.calls.append((prompts, sampling_params))
        outputs = []
        for prompt, params in zip(prompts, sampling_params):
            start = len(prompt["prompt_token_ids"]) - 1
            n_taken = self.is_end[start:].index(True) + 1
            ids = self.ids[start : start + min(n_taken, params.max_tokens)]
            reason = "stop" if n_taken <= params.max_tokens else "length"
            logprobs = [{i: argparse.Namespace(logprob=-0.5)} for i in ids]
            output = argparse.Namespace(token_ids=ids, logprobs=logprobs, finish_reason=reason)
            outputs.append(argparse.Namespace(outputs=[output]))
        return outputs


def scripted_model(tokenizer, text):
    """A VllmModel around `Scripted`; its prompts have one token."""
    model = VllmModel.__new__(VllmModel)
    model.name = "scripted"
    model.max_length = 100
    model.eos_ids = set()
    model._adapter = None
    model._llm = Scripted(tokenizer, text)
    return model


@pytest.mark.parametrize(
    "text, expected, n_calls",
    [
        ('{"answer": "x"} and more', '{"answer": "x"}', 1),
        ('{"answer": "a } b", "citations": [0]} {', '{"answer": "a } b", "citations": [0]}', 2),
        ('{"answer": {"b": {}}} x', '{"answer": {"b": {}}}', None),
        ('a } before {"answer": "x"}', 'a } before {"answer": "x"}', 2),
        # Not the one with the answer.
        ('{"a": 1} {"answer": "x"}', '{"a": 1} {"answer": "x"}', 2),
        ("no object", "no object", 1),
        ('{"answer": "cut', '{"answer": "cut', 1),
    ],
)
def test_a_row_ends_where_its_object_ends(vllm, tokenizer, text, expected, n_calls):
    model = scripted_model(tokenizer, text)
    settings = GenerationSettings(batch_size=1, max_new_tokens=60, sampling=Sampling(0.5, 0.9, 5), seeds=[7])
    [[(i, done)]] = model.generate(tokenizer, [[2]], settings)
    assert i == 0
    assert tokenizer.decode(done.ids) == expected
    assert len(done.logps) in (len(done.ids), len(done.ids) + 1)
    calls = model._llm.calls
    assert n_calls is None or len(calls) == n_calls
    params = [each for _, [each] in calls]
    assert {(each.temperature, each.top_p, each.top_k) for each in params} == {(0.5, 0.9, 5)}
    # A row that continues draws new numbers, and has the rest of its tokens.
    assert len({each.seed for each in params}) == len(calls)
    n_read = [len(prompt["prompt_token_ids"]) for [prompt], _ in calls]
    assert [each.max_tokens for each in params] == [61 - n for n in n_read]


def test_a_row_at_the_models_last_position_ends(vllm, tokenizer):
    model = scripted_model(tokenizer, "} } } } } } }")
    model.max_length = 4
    [[(_, done)]] = model.generate(tokenizer, [[2]], GenerationSettings(batch_size=1, max_new_tokens=60))
    assert 3 <= len(done.ids) < 7


def test_sampling_depends_on_the_seed_alone(vllm, adapter_dir, prompts, monkeypatch):
    drawn = []
    for n_rows, keys in ((512, list(prompts)), (2, list(reversed(prompts)))):
        monkeypatch.setattr(vllm_engine, "_ROWS_PER_CALL", n_rows)
        chosen = {key: prompts[key] for key in keys}
        seeds = [11 + list(prompts).index(key) for key in keys]
        settings = GenerationSettings(4, 6, Sampling(temperature=1.5, top_k=50), seeds)
        with sft_and_base(adapter_dir, None, OPTIONS) as models:
            batches = list(predict(models.model, models.tokenizer, chosen, "sft", settings))
        assert [len(batch) for batch in batches] == ([5] if n_rows == 512 else [2, 2, 1])
        drawn.append({row["id"]: row["completion"] for batch in batches for row in batch})
    assert drawn[0] == drawn[1]


@pytest.fixture(scope="module")
def letters(samples):
    """A tokenizer of single bytes: every text has one encoding, so a schema leaves one way to write it."""
    from tests.conftest import train_tokenizer

    tokenizer = train_tokenizer(["x"])
    assert len(tokenizer) == 261
    return tokenizer


def test_constrained_answers_are_those_of_our_engine(vllm, letters, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    # A random model ends no answer before its longest, and the stand-in matches the pattern at every step.
    for module in (schema_pattern, schema_states, constrained):
        monkeypatch.setattr(module, "MAX_ANSWER_CHARS", 10)
    completion_pattern.cache_clear()
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(tiny_config("llama", len(letters))).save_pretrained(tmp_path)
    letters.save_pretrained(tmp_path)
    builder = PromptBuilder(letters, "{evidence}{question}", 1000)
    chunks = [{"title": "T", "text": "A b."}, {"title": "U", "text": "C d."}]
    built = {}
    for i, n_chunks in enumerate((1, 2)):
        sample = {"id": str(i), "question": "Who?", "evidence_chunks": chunks[:n_chunks]}
        built[sample["id"]] = builder.build(sample)
    settings = GenerationSettings(batch_size=2, max_new_tokens=200)
    found = []
    for options in (LoadOptions(bf16=False), OPTIONS):
        with sft_and_base(str(tmp_path), None, options) as models:
            batches = predict(models.model, models.tokenizer, built, "sft", settings, constrained=True)
            found.append({"sft": {row["id"]: row for batch in batches for row in batch}})
    assert_same(*found)
    completion_pattern.cache_clear()
    for row in found[1]["sft"].values():
        assert parse_completion(row["completion"], len(row["shown"]), strict=True).is_valid


# --- the schema as a pattern


def accepted(text: str, n_chunks: int) -> bool:
    """Whether the state machine accepts what follows the opening of a completion."""
    state = START
    for char in OPENING + text:
        state = step(state, char, n_chunks)
        if state is None:
            return False
    return state == DONE


ALPHABET = 'aI[]_ "\\,:0123459.}{né\u00a0\n'


def walk(rng: random.Random, n_chunks: int) -> str:
    """A random text that the state machine accepts, behind the opening."""
    text = rng.choice(["", "", REFUSAL + '"', REFUSAL + " x", "a" * rng.randint(110, 119)])
    state = START
    for char in OPENING + text:
        state = step(state, char, n_chunks)
    while state != DONE:
        options = [char for char in ALPHABET if step(state, char, n_chunks)]
        if state[0] == "literal":
            options = [state[1][0]]
        # A quote ends the answer; without weight it would take long to come.
        weights = [10 if char == '"' else 1 for char in options]
        [char] = rng.choices(options, weights)
        text += char
        state = step(state, char, n_chunks)
    return text


def test_the_pattern_accepts_what_the_state_machine_accepts():
    rng = random.Random(0)
    n_accepted = 0
    for _ in range(1500):
        n_chunks = rng.choice([0, 1, 3, 12])
        text = walk(rng, n_chunks)
        place = rng.randrange(len(text))
        wrong = text[:place] + rng.choice(ALPHABET) + text[place + rng.randint(0, 1) :]
        for each in (text, wrong):
            # Answers that only begin like the refusal are the pattern's one exception.
            if each.startswith(REFUSAL[:2]) and not each.startswith(REFUSAL + '"'):
                continue
            matches = re.fullmatch(completion_pattern(n_chunks), each) is not None
            assert matches == accepted(each, n_chunks), (each, n_chunks)
            n_accepted += matches
    assert n_accepted > 1000


@pytest.mark.parametrize("answer", ["Warsaw", 'a "b" c', "Łódź – 5%", "[1] x", "x" * 120, REFUSAL])
def test_gold_completions_match(answer):
    citations = [] if answer == REFUSAL else [0, 2, 11]
    text = render_completion(answer, citations, 0.0 if answer == REFUSAL else 0.9)
    assert regex.fullmatch(completion_pattern(12), text.removeprefix(OPENING))


# --- what is refused


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"use_4bit": True}, "takes no --use-4bit: it loads weights in 16 bits"),
        ({"use_8bit": True}, "takes no --use-8bit"),
        ({"attn_impl": "eager"}, "takes no --attn-impl: it chooses its own attention"),
        ({"temperature": 2.5}, "at most 2"),
    ],
)
def test_flags_that_vllm_cannot_follow_are_usage_errors(flags, message):
    args = argparse.Namespace(engine="vllm", dry_run=False, attn_impl="auto", use_4bit=None)
    with pytest.raises(UsageError, match=message):
        check_engine(argparse.Namespace(**{**vars(args), **flags}))
    check_engine(argparse.Namespace(**{**vars(args), **flags, "engine": "ours"}))


def test_a_launch_of_several_processes_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="without accelerate launch"):
        check_engine(argparse.Namespace(engine="vllm", dry_run=False))


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
@pytest.mark.parametrize("script", ["evaluate_sft_fast_robust.py", "robustness.py", "make_prefs.py"])
def test_the_missing_package_is_named_with_its_command(script, stage, home, adapter_dir):
    flags = ["--model-path", adapter_dir, "--test-data", "data/processed/test.jsonl"]
    if script == "make_prefs.py":
        flags = ["--sft-model", adapter_dir, "--data-path", "data/processed/val.jsonl"]
    done = stage(script, *flags, "--engine", "vllm", home=home)
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.endswith("--engine vllm needs the package vllm; run `pip install -r requirements-vllm.txt`")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_a_plan_names_the_missing_package_once(stage, home, adapter_dir):
    flags = ["--model-path", adapter_dir, "--test-data", "data/processed/test.jsonl"]
    done = stage("robustness.py", *flags, "--engine", "vllm", "--dry-run", home=home)
    assert done.returncode == 0
    assert done.stderr.count("needs the package vllm") == 1


@pytest.mark.parametrize("place", ["LLM", "import_vllm"])
def test_vllms_errors_are_one_line(place, vllm, adapter_dir, monkeypatch):
    def fail(*args, **arguments):
        kind = RuntimeError if place == "LLM" else ImportError
        raise kind("Engine core initialization failed.\nSee root cause above.")

    monkeypatch.setattr(vllm if place == "LLM" else vllm_engine, place, fail)
    with pytest.raises(StageError) as raised:
        VllmModel(adapter_dir, OPTIONS)
    assert "\n" not in str(raised.value)
    assert "cannot start the model (Engine core initialization failed. See root cause above.)" in str(
        raised.value
    )


def test_a_prompt_longer_than_the_model_is_refused(vllm, tokenizer):
    model = scripted_model(tokenizer, "x")
    with pytest.raises(DataError, match="100 tokens, but there is room for 100"):
        next(model.generate(tokenizer, [[2] * 100], GenerationSettings(batch_size=1, max_new_tokens=5)))


def test_a_rank_beyond_vllms_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8, "rank_pattern": {"q_proj": 600}}))
    with pytest.raises(UsageError, match="rank 600"):
        vllm_engine._lora_rank(str(tmp_path))


# --- the scripts


def test_an_evaluation_by_vllm_is_scored_like_ours(vllm, home, adapter_dir, capsys):
    flags = ["--model-path", adapter_dir, "--test-data", "data/processed/test.jsonl", "--compare-baseline"]
    flags += ["--limit", "3", "--max-new-tokens", "8", "--output", "v.json"]
    evaluate_sft_fast_robust.main([*flags, "--engine", "vllm"])
    results = json.loads((home / "v.json").read_text())
    assert results["run"]["settings"]["engine"] == "vllm"
    rows = [json.loads(line) for line in (home / "v_predictions.jsonl").read_text().splitlines()]
    assert [row["model"] for row in rows] == ["sft"] * 3 + ["base"] * 3
    with pytest.raises(UsageError, match="engine"):
        evaluate_sft_fast_robust.main(flags)


def test_robustness_by_vllm_runs_every_level(vllm, home, adapter_dir):
    flags = ["--model-path", adapter_dir, "--test-data", "data/processed/test.jsonl", "--suite", "order"]
    robustness.main([*flags, "--limit", "2", "--max-new-tokens", "4", "--engine", "vllm"])
    results = json.loads((home / "robustness.json").read_text())
    assert results["run"]["settings"]["engine"] == "vllm"
    assert len(results["suites"]["order"]["levels"]) > 1


@pytest.mark.parametrize("script", [evaluate_sft_fast_robust, robustness])
def test_results_and_logs_from_before_the_flag_are_those_of_our_engine(
    script, home, adapter_dir, monkeypatch, capsys
):
    keys = []
    log = script.ShardLog
    monkeypatch.setattr(
        script, "ShardLog", lambda path, key, shards: keys.append(key) or log(path, key, shards)
    )
    flags = ["--model-path", adapter_dir, "--test-data", "data/processed/test.jsonl", "--output", "old.json"]
    flags += [
        "--limit",
        "2",
        "--max-new-tokens",
        "4",
        *(["--suite", "order"] if script is robustness else []),
    ]
    script.main(flags)
    # What an interrupted run is resumed by names no engine, as before there was one.
    assert "engine" not in keys[0]
    assert ("attn_impl" in keys[0]) == (script is evaluate_sft_fast_robust)

    results = json.loads((home / "old.json").read_text())
    for name in ("engine", "use_4bit", "use_8bit"):
        del results["run"]["settings"][name]
    (home / "old.json").write_text(json.dumps(results))
    capsys.readouterr()
    for again in (flags, [*flags, "--engine", "ours"]):
        script.main(again)
        assert "is complete with these settings" in capsys.readouterr().out


def test_candidates_of_vllm_have_their_own_cache(vllm, home, adapter_dir):
    flags = ["--phase", "generate", "--sft-model", adapter_dir, "--data-path", "data/processed/val.jsonl"]
    flags += ["--max-samples", "2", "--max-new-tokens", "6", "--models", "sft,base"]
    make_prefs.main([*flags, "--engine", "vllm"])
    [manifest] = (home / "prefs/cache").glob("*/manifest.json")
    settings = json.loads(manifest.read_text())["settings"]
    assert settings.pop("engine") == "vllm"
    [llm] = vllm.LLM.made[-1:]
    sampled = [params for call in llm.calls for params in call["params"]]
    assert len({params.seed for params in sampled}) == len(sampled) >= 8
    assert {params.temperature for params in sampled} == {0.7}
    # A cache of our engine names none, as in versions without the flag.
    assert cache._differences(settings, {"engine": "ours"}) == []
    assert cache._differences({**settings, "engine": "vllm"}, {"engine": "ours"}) == ["engine 'vllm'"]


# --- the names


def test_the_ranks_are_vllms():
    known = json.loads(Path(vllm_names.__file__).with_suffix(".json").read_text())
    assert list(vllm_engine._LORA_RANKS) == known["ranks"]


def test_unknown_names_are_refused_by_the_stand_in(vllm):
    with pytest.raises(TypeError, match="guided_json"):
        vllm.SamplingParams(logprobs=0, guided_json={})


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_installed_version_has_the_names():
    spec = importlib.util.find_spec("vllm")
    installed = vllm_names.read_names(Path(spec.submodule_search_locations[0]).parent)
    known = json.loads(Path(vllm_names.__file__).with_suffix(".json").read_text())["names"]
    for wanted, names in known.items():
        assert set(names) <= set(installed[wanted]), wanted
