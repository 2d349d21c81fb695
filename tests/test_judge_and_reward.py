import json

import numpy as np
import pytest
import torch

import train_rm
from make_prefs import choose_pairs
from preferences.judges import (
    label_token_ids,
    order_averaged,
    orders_agree,
    preference_probabilities,
    verifier_checks,
    verifier_score,
    win_scores,
)
from preferences.pairs import pair_metrics
from preferences.reward import RewardHead, answer_in_chunks, load_head, penalties, save_head
from utils.completions import parse_completion, render_completion
from utils.text import REFUSAL

REFUSE = render_completion(REFUSAL, [], 0.0)


def checks(text, row):
    parsed = parse_completion(text, len(row["evidence_chunks"]))
    return verifier_checks(parsed, parsed.is_valid, row)


@pytest.mark.parametrize(
    "answer, citations, score",
    [
        ("Warsaw", [0], 1.0),
        ("Warsaw", [0, 1], 0.8),
        ("Warsaw", [1], 0.6),
        ("Warsaw", [], 0.6),
        ("Paris", [0], 0.8),
        ("Warsaw", [9], 0.4),
    ],
)
def test_the_verifier_counts_named_checks(answer, citations, score, sample):
    assert verifier_score(checks(render_completion(answer, citations, 0.9), sample)) == pytest.approx(score)


def test_the_verifier_rewards_the_right_refusal_alone(sample, unanswerable):
    assert verifier_score(checks(REFUSE, unanswerable)) == 1.0
    # Well-formed, cites nothing wrong; refuses wrongly, no answer, no support.
    assert checks(REFUSE, sample) == {"format": 1, "refusal": 0, "answer": 0, "support": 0, "precision": 1}
    assert verifier_score(checks("I think Warsaw", sample)) == 0.0
    assert verifier_score(checks(render_completion("Warsaw", [0], 0.9), unanswerable)) == pytest.approx(0.2)


def test_both_orders_are_averaged():
    # 0.8 as A and 0.6 for the other as A: (0.8 + 0.4) / 2.
    assert order_averaged(0.8, 0.6) == pytest.approx(0.6) and not orders_agree(0.8, 0.6)
    # A judge that always prefers A says nothing.
    assert order_averaged(0.9, 0.9) == pytest.approx(0.5)
    assert win_scores(3, {(0, 1): 0.9, (0, 2): 0.7, (1, 2): 0.4}) == pytest.approx([0.8, 0.25, 0.45])


def test_judge_labels_differ_and_probabilities_are_renormalised(make_model, tokenizer):
    a, b = label_token_ids(tokenizer)
    assert a and b and not set(a) & set(b)
    found = [
        p
        for batch in preference_probabilities(make_model("llama"), tokenizer, [[2, 5, 6], [2, 7]], 2)
        for _, p in batch
    ]
    assert all(0 < p < 1 for p in found)


@pytest.mark.parametrize(
    "verifier, llm, kind, expected",
    [
        ([1.0, 0.4, 0.4], None, "verifier", [(0, 1), (0, 2)]),
        ([0.8, 0.75], None, "verifier", []),
        ([0.0, 1.0], None, "verifier", [(1, 0)]),
        ([0.6, 0.6], [0.9, 0.1], "hybrid", [(0, 1)]),
        ([0.6, 0.6], None, "verifier", []),
        ([1.0, 0.0], [0.1, 0.9], "llm", [(1, 0)]),
    ],
)
def test_the_pair_rule(verifier, llm, kind, expected):
    pairs, reason = choose_pairs({"verifier": verifier, "llm": llm}, kind, 0.12)
    assert [(chosen, rejected) for chosen, rejected, *_ in pairs] == expected
    assert (reason is None) == bool(expected)


@pytest.mark.parametrize(
    "completion, n_tokens, expected",
    [
        (render_completion("Warsaw", [0], 0.9), 20, {}),
        (render_completion("Warsaw", [0, 9], 0.9), 20, {"citation": 0.5}),
        (render_completion("Warsaw", [9], 0.9), 20, {"citation": 1.0, "confidence": 0.9, "span": 1.0}),
        (render_completion("Paris", [0], 0.9), 20, {"span": 1.0}),
        (render_completion("yes", [1], 0.9), 20, {}),
        (render_completion(REFUSAL, [], 0.0), 20, {}),
        (render_completion(REFUSAL, [], 0.7), 20, {"confidence": 0.7}),
        (render_completion("Warsaw", [0], 0.9), 96, {"length": 0.5}),
        (render_completion("Warsaw", [0], 0.9), 500, {"length": 1.0}),
        (render_completion("Warsaw", [0, 1, 2, 3], 0.9), 20, {"overcitation": 1.0}),
    ],
)
def test_penalties_by_hand(completion, n_tokens, expected, sample):
    found = penalties(parse_completion(completion, 4), sample["evidence_chunks"], n_tokens)
    assert {name: value for name, value in found.items() if value} == expected


def test_an_unparsable_completion_gets_every_penalty(sample):
    assert set(penalties(parse_completion("?", 4), sample["evidence_chunks"], 5).values()) == {1.0}


def test_numbers_and_dates_are_normalised_before_the_support_penalty():
    chunks = [{"title": "T", "text": "On 7 March 1912 it had 1,200 rooms."}]
    assert (
        answer_in_chunks("07 march 1912", chunks)
        and answer_in_chunks("1200", chunks)
        and not answer_in_chunks("12", chunks)
    )


def test_the_bradley_terry_loss_by_hand():
    # -log sigmoid(1) = 0.3133, -log sigmoid(-1) = 1.3133.
    loss = train_rm.bradley_terry_loss(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 1.0]))
    assert loss.item() == pytest.approx(0.8133, abs=1e-4)


def test_pair_metrics_count_ties_half():
    assert pair_metrics(np.array([1.0, 0.5]), np.array([0.0, 0.5])) == {"accuracy": 0.75, "roc_auc": 0.875}


def test_a_group_stands_on_one_side():
    rows = [{"group": f"g{i // 3}"} for i in range(60)]
    split = train_rm.split_groups(rows, {"seed": 1, "val_fraction": 0.15, "test_fraction": 0.2})
    assert sorted(i for side in split.values() for i in side) == list(range(60))
    groups = [{rows[i]["group"] for i in side} for side in split.values()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert 9 <= len(split["test"]) <= 12 and 6 <= len(split["val"]) <= 9


def test_a_head_learns_a_linear_preference_and_its_file_is_byte_identical(tmp_path):
    torch.manual_seed(0)
    direction = torch.randn(16)
    features = torch.randn(800, 16)
    chosen_first = features[0::2] @ direction > features[1::2] @ direction
    features = torch.stack(
        [
            torch.where(chosen_first[:, None], features[0::2], features[1::2]),
            torch.where(chosen_first[:, None], features[1::2], features[0::2]),
        ],
        1,
    )
    features = features.reshape(800, 16)
    config = {**train_rm.DEFAULTS, "learning_rate": 0.05, "num_epochs": 10, "batch_size": 16}
    split = {"train": list(range(240)), "val": list(range(240, 320)), "test": list(range(320, 400))}
    for name in ("a", "b"):
        history = train_rm.train(config, features, np.zeros(800), split, tmp_path / name)
    head, saved = load_head(tmp_path / "a/best")
    scores = train_rm.rewards(head, features, np.zeros(800), saved["score_scale"])
    assert pair_metrics(scores[0::2][320:], scores[1::2][320:])["accuracy"] > 0.85
    assert history["eval_metrics"][-1]["roc_auc"] > 0.8 and history["train_losses"][0] == pytest.approx(
        0.6931, abs=1e-3
    )
    files = [(tmp_path / name / "final/reward_head.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_a_directory_without_a_head_is_named(tmp_path):
    with pytest.raises(Exception, match="no reward model"):
        load_head(tmp_path)
    save_head(tmp_path / "x", RewardHead(4), {"a": 1})
    assert load_head(tmp_path / "x")[1] == {"a": 1}
    assert json.loads((tmp_path / "x/config.json").read_text()) == {"a": 1}
