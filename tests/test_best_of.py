"""Best of N: what each pick returns, the share of the gap, and an evaluation with a reward model."""

import argparse
import json

import pytest
import torch

import evaluate_sft_fast_robust
from evaluation.best_of import best_of_report, pick_completions
from preferences.completion_reader import CompletionReader, PromptSource
from preferences.reward import RewardHead, head_config, save_head
from preferences.reward_config import DEFAULTS
from preferences.rewarded import head_settings
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from utils.completions import render_completion
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, write_json
from utils.text import REFUSAL


def candidate(sample, answer, citations, logp):
    completion = render_completion(answer, citations, 0.9)
    shown = list(range(len(sample["evidence_chunks"])))
    return {"id": sample["id"], "model": "sft", "completion": completion, "shown": shown, "logp": logp}


@pytest.fixture
def drawn(sample):
    """Greedy is wrong, the second and the fourth are right, the third is the likeliest, a refusal."""
    rows = [
        candidate(sample, "Paris", [0], -3.0),
        candidate(sample, "Warsaw", [1], -4.0),
        candidate(sample, REFUSAL, [], -1.0),
        candidate(sample, "warsaw", sample["support_spans"], -5.0),
    ]
    return {sample["id"]: rows}


def test_each_pick_returns_what_its_name_says(sample, drawn):
    rewards = {sample["id"]: [0.1, 0.7, 0.7, 0.2]}
    picked = {row["model"]: row for row in pick_completions(drawn, rewards, [sample], 7)}
    rows = drawn[sample["id"]]
    # The first of two equal rewards.
    assert picked["by_reward"]["completion"] == rows[1]["completion"]
    # Two of four say Warsaw; the first of them is returned.
    assert picked["by_votes"]["completion"] == rows[1]["completion"]
    assert picked["by_likelihood"]["completion"] == rows[2]["completion"]
    assert picked["by_oracle"]["completion"] == rows[3]["completion"]
    again = {row["model"]: row for row in pick_completions(drawn, rewards, [sample], 7)}
    assert again == picked


def test_the_oracle_of_an_unanswerable_question_is_a_refusal(unanswerable):
    rows = [candidate(unanswerable, "Paris", [0], -1.0), candidate(unanswerable, REFUSAL, [], -2.0)]
    picked = pick_completions({unanswerable["id"]: rows}, {unanswerable["id"]: [1.0, 0.0]}, [unanswerable], 7)
    completions = {row["model"]: row["completion"] for row in picked}
    assert completions["by_oracle"] == rows[1]["completion"]
    assert completions["by_reward"] == completions["by_votes"] == rows[0]["completion"]


def test_the_share_of_the_gap_by_hand(sample, drawn):
    rows = drawn[sample["id"]]
    # Greedy -1, the oracle 1; a refusal of an answerable question is 0, so half of the gap is closed.
    picked = pick_completions(drawn, {sample["id"]: [0.0, 0.0, 1.0, 0.0]}, [sample], 7)
    flags = argparse.Namespace(best_of=4, temperature=1.0, reward_model="rm", seed=7)
    found = best_of_report([rows[0], *picked], [sample], flags)
    assert found["gap_closed"]["net_score"] == pytest.approx(0.5)
    assert found["leads"]["sft"]["net_score"] == pytest.approx(1.0)
    assert found["leads"]["by_votes"]["ci95"]["net_score"] is None
    picked = pick_completions(drawn, {sample["id"]: [0.0, 0.0, 0.0, 1.0]}, [sample], 7)
    found = best_of_report([rows[3], *picked], [sample], flags)
    assert found["gap_closed"]["net_score"] is None


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--best-of", "4"], "need each other"),
        (["--reward-model", "rm/best"], "need each other"),
        (["--best-of", "4", "--reward-model", "rm/best", "--temperature", "0"], "--temperature above 0"),
        (["--best-of", "4", "--reward-model", "rm/best", "--predictions", "p.jsonl"], "instead of"),
    ],
)
def test_flags_that_lack_each_other(flags, message):
    with pytest.raises(UsageError, match=message):
        evaluate_sft_fast_robust.read_arguments(["--test-data", "t", "--model-path", "m", *flags])


def write_head(folder, model, samples):
    """A head that was not trained: its weights are drawn."""
    config = {**DEFAULTS, "base_model": str(model), "max_seq_length": 900}
    source = PromptSource("t", lambda *args, **kw: PromptBuilder(*args, SFT_TEMPLATES["default"], **kw))
    rows = [{**samples[0], "completion": "{}"}]
    n_features = len(CompletionReader.load(config, source).read(rows)[0]["features"])
    torch.manual_seed(0)
    head = RewardHead(n_features)
    torch.nn.init.normal_(head.linear.weight)
    save_head(folder, head, head_config(config, {"mean": 0.0, "std": 1.0}, {}))


def test_an_evaluation_returns_the_candidate_with_the_largest_reward(tiny_gemma_dir, home, samples, capsys):
    write_head(home / "rm/best", tiny_gemma_dir, samples)
    flags = ["--model-path", str(tiny_gemma_dir), "--test-data", "data/processed/test.jsonl", "--limit", "4"]
    flags += ["--max-new-tokens", "12", "--output", "out.json", "--best-of", "3"]
    flags += ["--reward-model", "rm/best"]
    evaluate_sft_fast_robust.main(flags)
    assert "best of 3 by the reward" in capsys.readouterr().out
    results = json.loads((home / "out.json").read_text())
    assert results["best_of"]["n"] == 3 and results["best_of"]["temperature"] == 1.0
    lines = (home / "out_candidates.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 3 * 4
    best: dict[str, dict] = {}
    for row in rows:
        if row["id"] not in best or row["reward"] > best[row["id"]]["reward"]:
            best[row["id"]] = row
    predictions = [json.loads(line) for line in (home / "out_predictions.jsonl").read_text().splitlines()]
    chosen = {row["id"]: row["completion"] for row in predictions if row["model"] == "by_reward"}
    assert chosen == {name: row["completion"] for name, row in best.items()}
    # The samples and their features were needed until the results were written.
    assert not list(home.glob(".out_best_of"))
    evaluate_sft_fast_robust.main(flags)
    assert "is complete with these settings" in capsys.readouterr().out


def test_a_damaged_reward_model_is_named_before_anything_is_generated(tiny_gemma_dir, home, samples):
    write_head(home / "rm/best", tiny_gemma_dir, samples)
    config = read_json(home / "rm/best/config.json")
    for field in ("score_scale", "penalty_weights"):
        write_json(home / "rm/best/config.json", {k: v for k, v in config.items() if k != field})
        with pytest.raises(DataError, match=f"config.json: field '{field}' is missing"):
            head_settings("rm/best")


def test_a_run_killed_while_rewards_are_read_keeps_its_completions(
    tiny_gemma_dir, home, samples, monkeypatch
):
    write_head(home / "rm/best", tiny_gemma_dir, samples)
    flags = ["--model-path", str(tiny_gemma_dir), "--test-data", "data/processed/test.jsonl", "--limit", "2"]
    flags += ["--max-new-tokens", "4", "--output", "out.json", "--best-of", "2", "--reward-model", "rm/best"]
    with monkeypatch.context() as patch:
        patch.setattr("preferences.rewarded.score_completions", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate_sft_fast_robust.main(flags)
    asked = []
    predict = evaluate_sft_fast_robust.predict

    def counted(model, tokenizer, prompts, name, settings, *args):
        # What is known counts in the plan of the batches, but is not generated.
        asked.append(len(prompts) - len(settings.known))
        return predict(model, tokenizer, prompts, name, settings, *args)

    monkeypatch.setattr(evaluate_sft_fast_robust, "predict", counted)
    monkeypatch.setattr("preferences.rewarded.generate_candidates", lambda *args: 1 / 0)
    evaluate_sft_fast_robust.main(flags)
    assert asked == [0]
