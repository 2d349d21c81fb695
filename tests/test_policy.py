"""train_dpo.py: losses against sums by hand, shared prompts, kept and lost rounds, stopped runs."""

import json
import math
import re
import shutil
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import make_prefs
import train_dpo
from models.cpu_attention import use_grouped_attention
from models.loading import LoadOptions, load_model
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from tests.conftest import TWO_PROCESSES, TWO_PROCESSES_ENV
from tests.test_kills import add_checkpoint
from tests.test_sft_runs import FSDP
from train_dpo import LOSSES, PolicyTrainer, policy_loss
from training.pair_rows import encode_pairs, hold_out, keep_best_once, number_rows, pick_pairs
from training.pair_trainer import PairLogps, make_pair_collator
from training.policy_config import LOSS_NAMES, POLICY_DEFAULTS
from training.policy_run import encode_preferences, kind_factors
from utils.completions import gold_completion, render_completion
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, read_jsonl, write_jsonl
from utils.text import REFUSAL

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("completion", "rejected")


def preference(sample: dict, rejected: str, kind: str, number: int = 0) -> dict:
    """A row of make_prefs.py: the gold completion over another one."""
    shown = list(range(len(sample["evidence_chunks"])))
    sides = {"chosen": gold_completion(sample, shown), "rejected": rejected}
    messages = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
    return {
        "id": f"{sample['id']}#{number}",
        "sample_id": sample["id"],
        **{key: sample[key] for key in ("source", "group", "question", "answerable", "evidence_chunks")},
        "licence": "CC BY-SA 4.0",
        "kind": kind,
        "prompt": [{"role": "user", "content": sample["question"]}],
        **messages,
        **{"margin": 0.5, "score_chosen": 1.0, "score_rejected": 0.5},
        **{"chosen_model": "sft", "rejected_model": "sft", "decided_by": "verifier", "judge": {}},
    }


def preferences_of(samples: list[dict]) -> list[dict]:
    rows = []
    for sample in samples:
        rows.append(preference(sample, render_completion("something else", [0], 0.9), "other answer"))
        if sample["answerable"]:
            refusal = render_completion(REFUSAL, [], 0.0)
            rows.append(preference(sample, refusal, "answer over refusal", 1))
    return rows


@pytest.fixture
def pairs(tokenizer, samples):
    """Encoded pairs, two of some prompts, and the prefix that they share."""
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["evidence_first"], 1400)
    preferences = preferences_of(samples[:4])
    rows, _, drops = encode_pairs(preferences, builder, 1500)
    assert not drops
    number_rows(rows)
    return rows, builder.prefix


def bare_trainer(prefix: list[int], share_prefix: bool) -> PolicyTrainer:
    """The attributes of a trainer that its losses read, without a model, arguments or data."""
    trainer = PolicyTrainer.__new__(PolicyTrainer)
    trainer.prefix = prefix
    trainer.share_prefix = share_prefix
    trainer.objective = POLICY_DEFAULTS["objective"]
    return trainer


# --- the losses


def test_losses_are_those_of_their_papers():
    policy = torch.tensor([[-4.0, -9.0], [-6.0, -3.0]])
    reference = torch.tensor([[-5.0, -8.0], [-6.0, -4.0]])
    n_tokens = torch.tensor([[4, 2], [3, 1]])
    logps = PairLogps(policy, reference, n_tokens)

    def losses(**changes):
        plain = {"beta": 0.5, "length_normalized": False, "sft_weight": 0.0}
        objective = {**POLICY_DEFAULTS["objective"], **plain, **changes}
        return policy_loss(logps, objective).tolist()

    # h of the first pair is 1 and -1, of the second 0 and 1.
    def dpo(difference: float) -> float:
        return -math.log(1 / (1 + math.exp(-0.5 * difference)))

    assert losses() == pytest.approx([dpo(2), dpo(-1)])
    assert losses(length_normalized=True) == pytest.approx([dpo(1 / 4 + 1 / 2), dpo(-1)])
    assert losses(loss="ipo") == pytest.approx([(2 - 1) ** 2, (-1 - 1) ** 2])
    assert losses(loss="rejection") == pytest.approx([1.0, 2.0])
    assert losses(sft_weight=0.1) == pytest.approx([dpo(2) + 0.1, dpo(-1) + 0.2])
    assert tuple(LOSSES) == LOSS_NAMES


@pytest.mark.parametrize("attention", ["eager", "grouped"])
@pytest.mark.parametrize("share_prefix", [True, False])
def test_log_probabilities_are_those_of_whole_rows(attention, share_prefix, make_model, tokenizer, pairs):
    rows, prefix = pairs
    model = make_model("llama")
    model = use_grouped_attention(model) if attention == "grouped" else model
    trainer = bare_trainer(prefix, share_prefix)
    collate = make_pair_collator(tokenizer.pad_token_id, COLUMNS, len(prefix) if share_prefix else None)
    batch = collate(rows)
    # The prompt of a pair is read once.
    assert not share_prefix or (batch["n_shared"] > 100).all()
    found, n_tokens = trainer.completion_logps(model, batch)
    for row, logps, sizes in zip(rows, found, n_tokens):
        for column, logp, size in zip(COLUMNS, logps, sizes):
            ids = torch.tensor([prefix + row["suffix"] + row[column]])
            k = len(row[column])
            expected = make_model("llama")(ids).logits[0, -k - 1 : -1].log_softmax(-1)
            assert logp.item() == pytest.approx(expected[range(k), row[column]].sum().item(), rel=1e-4)
            assert size == k


def gradient(model, share_prefix, tokenizer, pairs):
    rows, prefix = pairs
    trainer = bare_trainer(prefix, share_prefix)
    trainer.reference = torch.zeros(len(rows), 2)
    trainer.ranked = []
    collate = make_pair_collator(tokenizer.pad_token_id, COLUMNS, len(prefix) if share_prefix else None)
    trainer.compute_loss(model.train(), collate(rows)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).float()


def test_shared_prompts_give_the_same_gradient(make_model, tokenizer, pairs):
    expected = gradient(make_model("llama"), False, tokenizer, pairs)
    cached = gradient(make_model("llama"), True, tokenizer, pairs)
    packed = gradient(use_grouped_attention(make_model("llama")), True, tokenizer, pairs)
    assert (cached - expected).norm() < 1e-4 * expected.norm()
    assert (packed - expected).norm() < 1e-4 * expected.norm()


# --- the pairs


def test_pairs_are_picked_held_out_by_group_and_counted(samples, tokenizer):
    preferences = preferences_of(samples[:12])
    made = [{**row, "rejected_model": "made"} for row in preferences[:3]]
    data = {**POLICY_DEFAULTS["data"], "candidates": "sampled", "max_pairs": 10}
    kept, drops = pick_pairs([*made, *preferences[3:]], data, 0)
    assert len(kept) == 10
    assert +drops == {"not sampled from a model": 3, "over data.max_pairs": len(preferences) - 13}
    train, held = hold_out(preferences, 0.2, 0)
    assert {preferences[i]["group"] for i in train}.isdisjoint({preferences[i]["group"] for i in held})
    assert sorted([*train, *held]) == list(range(len(preferences)))
    with pytest.raises(DataError, match="1 groups"):
        hold_out([row for row in preferences if row["group"] == preferences[0]["group"]], 0.2, 0)

    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1400)
    equal = {**preferences[0], "rejected": preferences[0]["chosen"]}
    rows, fitting, drops = encode_pairs([*preferences, equal], builder, 1500)
    assert fitting == preferences
    assert drops == {"equal completions": 1}
    best, drops = keep_best_once(rows)
    assert len(best) == len({row["id"] for row in rows}) and sum(drops.values()) == len(rows) - len(best)
    assert sum(row["weight"] for row in best) == pytest.approx(len(best))


def test_a_group_that_is_too_large_is_trained_on():
    rows = [{"group": "big"}] * 90 + [{"group": f"g{i}"} for i in range(10)]
    assert {len(hold_out(rows, 0.1, seed)[1]) for seed in range(12)} == {10}
    # Where all are too large, the smallest is held out.
    rows = [{"group": "big"}] * 5 + [{"group": "small"}] * 3
    assert {len(hold_out(rows, 0.1, seed)[1]) for seed in range(12)} == {3}


def test_the_chosen_side_is_right_unless_any_is_asked_for(samples):
    preferences = preferences_of(samples[:2])
    checks = [{"answer": 1, "support": 0}, {"answer": 0, "support": 1}]
    judged = [{**row, "judge": {"checks_chosen": one}} for row, one in zip(preferences, checks)]
    # Of another tool, without checks.
    rows = [*judged, preferences[2]]
    kept, drops = pick_pairs(rows, POLICY_DEFAULTS["data"], 0)
    assert kept == [rows[0], rows[2]] and drops == {"chosen side not right": 1}
    kept, drops = pick_pairs(rows, POLICY_DEFAULTS["data"] | {"chosen": "any"}, 0)
    assert kept == rows and not drops
    with pytest.raises(DataError, match="not right 1.*questions without gold set data.chosen: any"):
        pick_pairs(rows[1:2], POLICY_DEFAULTS["data"], 0)


def test_a_run_that_finds_the_reference_learns_what_the_one_that_wrote_it_did(policy_home):
    """By its dropout: reading the reference takes no random number of the training."""
    dropout = ["--set", "training.max_steps=2"]
    adapter = policy_home / "sft/checkpoint-best/adapter_config.json"
    adapter.write_text(json.dumps(read_json(adapter) | {"lora_dropout": 0.5}))
    manifest = adapter.with_name("run.json")
    run = read_json(manifest)
    manifest.write_text(json.dumps({name: value for name, value in run.items() if name != "files"}))
    train_dpo.main(["-c", "dpo.yaml", *dropout])
    losses = read_json(policy_home / "policy/training_history.json")["train_losses"]
    for path in sorted((policy_home / "policy").iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in ("run.json", "reference.safetensors"):
            path.unlink()
    run = read_json(policy_home / "policy/run.json")
    (policy_home / "policy/run.json").write_text(json.dumps(run | {"status": "running"}))
    train_dpo.main(["-c", "dpo.yaml", *dropout])
    again = read_json(policy_home / "policy/training_history.json")["train_losses"]
    assert [log["loss"] for log in again] == [log["loss"] for log in losses]


def test_a_round_of_an_earlier_version_is_not_taken_for_one_of_right_pairs(policy_home):
    train_dpo.main(["-c", "dpo.yaml"])
    path = policy_home / "policy/run.json"
    run = read_json(path)
    del run["settings"]["data"]["chosen"]
    path.write_text(json.dumps(run))
    with pytest.raises(UsageError, match=r"data.chosen \(was 'any', now 'right'\)"):
        train_dpo.main(["-c", "dpo.yaml"])
    train_dpo.main(["-c", "dpo.yaml", "--set", "data.chosen=any"])


def test_what_does_not_fit_is_left_out_before_pairs_are_held_out(samples, tokenizer):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1400)
    preferences = preferences_of(samples[:12])
    _, held = hold_out(preferences, POLICY_DEFAULTS["data"]["val_fraction"], 42)
    training = {**POLICY_DEFAULTS["training"], "max_seq_length": 1500}
    config = {**POLICY_DEFAULTS, "training": training}
    job = types.SimpleNamespace(config=config, builder=builder)
    for i in held:
        preferences[i]["evidence_chunks"] = [{"title": "T", "text": "word " * 3000}]
    job.shards = types.SimpleNamespace(n_processes=1)
    rows = encode_preferences(job, preferences, lambda part, by: np.ones(len(part)))
    assert rows.drops["evidence cut to fit the prompt"] == len(held) and rows.val and rows.train


def test_evidence_that_is_cut_would_change_what_a_citation_means(samples, tokenizer):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1400)
    rows = preferences_of(samples[:1])
    longest = len(builder.build(samples[0]).ids)
    short = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], longest - 1)
    with pytest.raises(DataError, match="evidence cut to fit the prompt"):
        encode_pairs(rows, short, 1500)


# --- runs


def config_text(**changes) -> str:
    training = {
        **{"per_device_train_batch_size": 2, "max_steps": 4, "eval_steps": 2, "save_steps": 2},
        **{"logging_steps": 1, "save_total_limit": 2, "learning_rate": 1e-2},
    }
    data = {"val_path": "data/val.jsonl", "max_generated_val_samples": 4, "max_calibration_samples": 4}
    data["pair_weights"] = []
    config = {"sft_model": "sft/checkpoint-best", "output_dir": "policy", "bf16": False}
    config["objective"] = {"sft_weight": 0.0}
    # JSON is YAML too.
    return json.dumps({**config, "training": training, "data": data, **changes})


@pytest.fixture
def policy_home(data_home, tiny_gemma_dir, tmp_path, monkeypatch):
    """A home with an SFT checkpoint of random weights, preferences, val samples and a config."""
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_gemma_dir, tmp_path / "tiny")
    add_checkpoint(tmp_path)
    (tmp_path / "sft").rename(tmp_path / "checkpoint-best")
    (tmp_path / "sft").mkdir()
    (tmp_path / "checkpoint-best").rename(tmp_path / "sft/checkpoint-best")
    facts = {"template": "evidence_first", "base_model": "tiny", "max_prompt_tokens": 1400}
    (tmp_path / "sft/checkpoint-best/run.json").write_text(json.dumps(facts))
    (tmp_path / "sft/train_ids.txt").write_text("seen:1\n")
    rows = [row for _, row in read_jsonl(data_home / "data/processed/train.jsonl")]
    write_jsonl(tmp_path / "prefs/preferences_a-b.jsonl", preferences_of(rows[:12]))
    val = [row for _, row in read_jsonl(data_home / "data/processed/val.jsonl")]
    write_jsonl(tmp_path / "data/val.jsonl", val[:6])
    (tmp_path / "dpo.yaml").write_text(config_text())
    return tmp_path


@pytest.mark.parametrize("judge, has_gold", [("verifier", True), ("citations", True), ("citations", False)])
def test_a_round_is_three_commands(judge, has_gold, policy_home):
    sampled = ["--max-samples", "4", "--n-generations", "3", "--temperature", "1", "--max-new-tokens", "8"]
    data = ["--data-path", "data/val.jsonl"]
    if not has_gold:
        asked = [row for _, row in read_jsonl(policy_home / "data/val.jsonl")]
        fields = ("id", "question", "evidence_chunks")
        write_jsonl(policy_home / "data/asked.jsonl", [{name: row[name] for name in fields} for row in asked])
        data = ["--data-path", "data/asked.jsonl"]
    model = ["--sft-model", "sft/checkpoint-best", "--base-model", "tiny", "--max-input-tokens", "1400"]
    make_prefs.main(["--phase", "generate", *model, *data, *sampled])
    [cache] = (policy_home / "prefs/cache").iterdir()
    # A random model writes nothing that can be parsed.
    rows = [row for _, row in read_jsonl(cache / "gens_sft.jsonl")]
    answers = ([[0], [1], [0, 1]][row["n"]] for row in rows)
    texts = [render_completion("something", cited, 0.9) for cited in answers]
    write_jsonl(cache / "gens_sft.jsonl", [{**row, "completion": text} for row, text in zip(rows, texts)])
    judging = ["--judge", judge, "--min-margin", "0"]
    if judge == "citations":
        judging += ["--judge-model", "sft/checkpoint-best"]
    else:
        judging += ["--hard-rejections"]
    make_prefs.main(["--phase", "judge", *data, *judging])
    [path] = [path for path in (policy_home / "prefs").glob("preferences_*.jsonl") if "a-b" not in path.name]
    pairs = [row for _, row in read_jsonl(path)]
    if judge == "citations":
        assert {row["decided_by"] for row in pairs} == {"citations"}
        assert all(0 < row["score_rejected"] < row["score_chosen"] < 1 for row in pairs)
    assert all(isinstance(row["answerable"], bool) == has_gold for row in pairs)
    stats = read_json(path.with_name(path.name.replace("preferences", "preference_stats", 1)[:-1]))
    assert stats["prompts"].get("without gold", 0) == (0 if has_gold else stats["n_samples"])
    # Made pairs have the gold completion on the chosen side, and the others a wrong answer. Without gold
    # there are no checks, and the pairs count.
    chosen = "any" if judge == "citations" and has_gold else "right"
    overrides = ["--set", "data.val_fraction=0.3", "--set", f"data.chosen={chosen}"]
    train_dpo.main(["-c", "dpo.yaml", "--prefs", str(path), *overrides])
    assert read_json(policy_home / "policy/run.json")["status"] == "complete"


def test_the_base_of_the_sft_model_may_have_moved(policy_home):
    (policy_home / "tiny").rename(policy_home / "moved")
    with pytest.raises(DataError, match="tiny is no longer there; .* --set base_model=DIR"):
        train_dpo.main(["-c", "dpo.yaml"])
    train_dpo.main(["-c", "dpo.yaml", "--set", "base_model=moved"])
    assert read_json(policy_home / "policy/run.json")["status"] == "complete"
    best = policy_home / "policy/checkpoint-best"
    assert read_json(best / "run.json")["base_model"] == "moved"
    # The policy names the place where its base is now.
    load_model(str(best), LoadOptions(bf16=False))
    train_dpo.main(["-c", "dpo.yaml", "--set", "base_model=moved", "--merge", "merged"])
    assert (policy_home / "merged/config.json").is_file()


def test_a_policy_of_a_full_model_has_that_model_as_its_base(policy_home):
    full = policy_home / "full/checkpoint-best"
    shutil.copytree(policy_home / "tiny", full)
    # Weights that are not those of what it was trained from.
    weights = load_file(full / "model.safetensors")
    save_file({name: value * 1.01 for name, value in weights.items()}, full / "model.safetensors")
    facts = {
        "template": "evidence_first",
        "base_model": "tiny",
        "base_weights": "old",
        "max_prompt_tokens": 1400,
    }
    (full / "run.json").write_text(json.dumps(facts))
    train_dpo.main(["-c", "dpo.yaml", "--set", "sft_model=full/checkpoint-best"])
    best = policy_home / "policy/checkpoint-best"
    assert read_json(best / "run.json")["base_model"] == "full/checkpoint-best"
    load_model(str(best), LoadOptions(bf16=False))
    train_dpo.main(["-c", "dpo.yaml", "--set", "sft_model=full/checkpoint-best", "--merge", "merged"])
    merged = load_file(policy_home / "merged/model.safetensors")
    # The adapter of a few steps is small, and the base is not the first one.
    near = [
        (merged[name].float() - 1.01 * value.float()).abs().max().item() for name, value in weights.items()
    ]
    far = [(merged[name].float() - value.float()).abs().max().item() for name, value in weights.items()]
    assert max(near) < max(far)
    # The next round goes on from there.
    second = ["--set", "sft_model=policy/checkpoint-best", "--set", "output_dir=second"]
    train_dpo.main(["-c", "dpo.yaml", *second])
    assert read_json(policy_home / "second/checkpoint-best/run.json")["base_model"] == "full/checkpoint-best"


def test_the_resume_command_names_the_preferences_that_were_read(policy_home):
    args = train_dpo.build_parser().parse_args(["-c", "dpo.yaml", "--limit", "0"])
    command = train_dpo.resume_command(args)
    assert "--prefs prefs/preferences_a-b.jsonl" in command and "--limit 0" in command


def history(home) -> dict:
    return read_json(home / "policy/training_history.json")


def without_times(found: dict) -> dict:
    names = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second")
    metrics = [dict(row) for row in found["eval_metrics"]]
    for row in metrics:
        for name in names:
            row.pop(name, None)
    return {**found, "eval_metrics": metrics}


def test_a_round_starts_from_its_sft_model_and_resumes_with_the_same_losses(policy_home, capsys):
    train_dpo.main(["-c", "dpo.yaml"])
    whole = history(policy_home)
    assert [row["step"] for row in whole["train_losses"]] == [1, 2, 3, 4]
    assert whole["train_losses"][-1]["accuracy"] in (0, 0.5, 1) and "gain" in whole["train_losses"][0]
    # Of a policy that is its reference, on any pair.
    assert whole["train_losses"][0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert whole["train_losses"][-1]["loss"] < math.log(2) - 5e-4
    assert [row["step"] for row in whole["eval_metrics"]] == [0, 2, 4]
    folder = policy_home / "policy"
    run = read_json(folder / "run.json")
    # A random model answers nothing right, before and after.
    assert run["kept"] is False and run["best_step"] == 0
    assert "round not kept" in capsys.readouterr().err
    before = load_file(policy_home / "sft/checkpoint-best/adapter_model.safetensors")
    best = load_file(folder / "checkpoint-best/adapter_model.safetensors")
    final = load_file(folder / "checkpoint-final/adapter_model.safetensors")
    assert all(torch.equal(best[name], before[name]) for name in before)
    assert any(not torch.equal(final[name], before[name]) for name in before)
    facts = read_json(folder / "checkpoint-final/run.json")
    assert facts["template"] == "evidence_first" and facts["trained_further"] == "sft/checkpoint-best"
    seen = (folder / "train_ids.txt").read_text().split()
    assert "seen:1" in seen and len(seen) > 5
    assert "(DPO)" in (folder / "README.md").read_text()

    # As a kill during the last save leaves it.
    (folder / "checkpoint-4/run.json").unlink()
    (folder / "run.json").write_text(json.dumps({**run, "status": "running"}))
    train_dpo.main(["-c", "dpo.yaml", "--resume"])
    assert "resuming from" in capsys.readouterr().err
    assert without_times(history(policy_home)) == without_times(whole)
    train_dpo.main(["-c", "dpo.yaml"])
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize("launch", [TWO_PROCESSES, FSDP[:-1]], ids=["ddp", "fsdp"])
def test_two_processes_learn_what_one_does(launch, policy_home, stage):
    batch = ["--set", "training.per_device_train_batch_size=1"]
    # The rows of a step in the same order, whoever reads them.
    two_batches = ["--set", "training.gradient_accumulation_steps=2", "--set", "output_dir=one"]
    train_dpo.main(["-c", "dpo.yaml", *batch, *two_batches])
    command = [*launch, "train_dpo.py", "-c", str(policy_home / "dpo.yaml")]
    done = stage(*command, *batch, home=policy_home, env=TWO_PROCESSES_ENV)
    assert done.returncode == 0, done.stderr[-3000:]
    one = read_json(policy_home / "one/training_history.json")["train_losses"]
    two = history(policy_home)["train_losses"]
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], abs=1e-4)
    tables = [load_file(policy_home / name / "reference.safetensors")["logps"] for name in ("one", "policy")]
    assert torch.allclose(*tables, atol=1e-3)


def test_a_merged_policy_answers_as_the_policy(policy_home, capsys):
    train_dpo.main(["-c", "dpo.yaml"])
    train_dpo.main(["-c", "dpo.yaml", "--merge", "merged"])
    assert "wrote" in capsys.readouterr().out
    facts = read_json(policy_home / "merged/run.json")
    assert facts["merge"]["max_logit_gap_float32"] < 1e-2 and facts["merged_from"] == "policy/checkpoint-best"


@pytest.mark.parametrize("loss", ["ipo", "rejection"])
def test_other_losses_run(loss, policy_home):
    train_dpo.main(["-c", "dpo.yaml", "--set", f"objective.loss={loss}", "--limit", "8"])
    losses = [row["loss"] for row in history(policy_home)["train_losses"]]
    assert losses[-1] < losses[0]


def test_a_reference_that_is_gone_is_not_made_of_a_trained_model(policy_home):
    train_dpo.main(["-c", "dpo.yaml"])
    folder = policy_home / "policy"
    (folder / "checkpoint-4/run.json").unlink()
    run = read_json(folder / "run.json")
    (folder / "run.json").write_text(json.dumps({**run, "status": "running"}))
    (folder / "reference.safetensors").unlink()
    with pytest.raises(DataError, match="--overwrite"):
        train_dpo.main(["-c", "dpo.yaml"])


def test_a_better_metric_with_fewer_answers_is_not_kept(policy_home, monkeypatch, capsys):
    measured = iter(
        [
            {"eval_net_score": 0.3, "eval_em_answerable": 0.6, "eval_answered_rate": 0.8},
            # More net score by answering less.
            {"eval_net_score": 0.5, "eval_em_answerable": 0.6, "eval_answered_rate": 0.7},
            {"eval_net_score": 0.4, "eval_em_answerable": 0.595, "eval_answered_rate": 0.76},
        ]
    )
    monkeypatch.setattr("training.job.TrainingJob.answer_meter", lambda job: lambda model: next(measured))
    train_dpo.main(["-c", "dpo.yaml"])
    notes = capsys.readouterr().err
    assert "step 2 is not kept: eval_answered_rate 0.700 after 0.800 (keep.max_answered_drop: 0.05)" in notes
    assert "round kept: eval_net_score on val +0.1000 at step 4" in notes
    assert read_json(policy_home / "policy/run.json")["kept"] is True
    folder = policy_home / "policy"
    best = read_json(folder / "checkpoint-best/run.json")
    assert best["step"] == 4

    # Killed behind the last step, twice: what the best measured is in the log of that step alone.
    run = read_json(folder / "run.json")
    for _ in range(2):
        shutil.rmtree(folder / "checkpoint-final")
        (folder / "run.json").write_text(json.dumps({**run, "status": "running"}))
        train_dpo.main(["-c", "dpo.yaml"])
        assert "round kept: eval_net_score on val +0.1000 at step 4" in capsys.readouterr().err
        assert read_json(folder / "checkpoint-best/run.json") == best


def test_a_plan_writes_nothing(policy_home, capsys):
    train_dpo.main(["-c", "dpo.yaml", "--dry-run"])
    assert re.search(r"would train on \d+ pairs \(\d+ held out; ", capsys.readouterr().out)
    assert not (policy_home / "policy").exists()


def test_a_plan_warns_of_what_is_not_there_yet(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    train_dpo.main(["-c", "configs/dpo.yaml", "--dry-run"])
    out = capsys.readouterr().out
    for missing in ("sft_model: .* does not exist yet", "val.jsonl", "no preferences_"):
        assert re.search(f"warning: .*{missing}", out), missing
    assert "would write" in out and not list(tmp_path.iterdir())


def test_a_plan_names_a_mistyped_kind(policy_home):
    with pytest.raises(UsageError, match="did you mean 'other answer'"):
        train_dpo.main(["-c", "dpo.yaml", "--dry-run", "--set", "data.kind_weights={other answers: 2}"])


def test_kinds_have_weights_and_a_mistyped_one_is_named(policy_home):
    rows = [{"kind": "other answer"}, {"kind": "answer over refusal"}, {}]
    assert kind_factors(rows, {"answer over refusal": 3, "pair": 0.5}).tolist() == [1, 3, 0.5]
    with pytest.raises(UsageError, match="did you mean 'other answer'"):
        train_dpo.main(["-c", "dpo.yaml", "--set", "data.kind_weights={other answers: 2}"])


@pytest.mark.parametrize(
    "override, word",
    [
        ("objective.loss=dpoo", "did you mean 'dpo'"),
        ("objective.beta=0", "above 0"),
        ("data.kind_weights={other answer: -1}", "from 0 on"),
        ("keep.max_em_drop=2", "from 0 to 1"),
        ("data.pair_weights=[kinds]", "did you mean 'kind'"),
        ("data.chosen=rihgt", "did you mean 'right'"),
        ("data.max_generated_val_samples=0", "a policy is kept by its answers"),
        ("training.optim=adam", "training.optim"),
    ],
)
def test_values_that_make_no_sense_are_named(override, word, policy_home):
    with pytest.raises(UsageError, match=word):
        train_dpo.main(["-c", "dpo.yaml", "--set", override])


def test_a_checkpoint_without_its_facts_is_named(policy_home):
    (policy_home / "sft/checkpoint-best/run.json").unlink()
    with pytest.raises(DataError, match="does not tell template, base_model, max_prompt_tokens"):
        train_dpo.main(["-c", "dpo.yaml"])


def test_the_yaml_shows_every_key_with_its_default():
    text = (ROOT / "configs/dpo.yaml").read_text()
    shown = set(re.findall(r"^#? *([a-z_0-9]+):", text, re.MULTILINE))
    known = set()
    for key, value in POLICY_DEFAULTS.items():
        known |= {key, *(value if isinstance(value, dict) else ())}
    assert known <= shown
    assert set(yaml.safe_load(text)) <= set(POLICY_DEFAULTS)
