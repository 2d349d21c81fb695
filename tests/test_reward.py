"""The reward model: penalties by hand, pairs and their split, the head, and a run whose cuts are counted."""

import json

import numpy as np
import pytest
import torch

import train_rm
from preferences.cuts import COMPLETION_TOKENS, count_cut, drop_equal_pairs, encode_completions
from preferences.head_training import macro_metrics, pair_facts
from preferences.pairs import interval, pair_metrics, split_groups
from preferences.reward import RewardHead, load_head, penalties, rewards, save_head
from preferences.reward_config import DEFAULTS
from preferences.support import answer_in_chunks
from utils.completions import parse_completion, render_completion
from utils.errors import DataError, UsageError
from utils.intervals import draw_counts, group_index, percentile_interval
from utils.jsonl import read_json, sha256_file, write_jsonl
from utils.text import REFUSAL


# The sample has four chunks, and "Warsaw" occurs in chunks 0 and 2. Penalties that are not named must be 0.
@pytest.mark.parametrize(
    "completion, n_tokens, expected",
    [
        (render_completion("Warsaw", [0], 0.9), 20, {}),
        (render_completion("Warsaw", [0, 9], 0.9), 20, {"citation": 0.5}),
        (render_completion("Warsaw", [9], 0.9), 20, {"citation": 1.0, "confidence": 0.9, "span": 1.0}),
        (render_completion("Paris", [0], 0.9), 20, {"span": 1.0}),
        (render_completion("yes", [1], 0.9), 20, {}),
        (render_completion(REFUSAL, [], 0.0), 20, {"refusal": 1.0}),
        (render_completion(REFUSAL, [], 0.7), 20, {"confidence": 0.7, "refusal": 1.0}),
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
    assert answer_in_chunks("07 march 1912", chunks)
    assert answer_in_chunks("1200", chunks)
    for answer in ("March 7, 1912", "1912-03-07", "seven March 1912", "The 1200 rooms"):
        assert answer_in_chunks(answer, chunks), answer
    assert not answer_in_chunks("8 March 1912", chunks)
    assert not answer_in_chunks("5", [{"title": "T", "text": "He died in May."}])
    assert answer_in_chunks("5 million", [{"title": "T", "text": "It cost 5,000,000 dollars."}])
    # Tokens, not characters: "1912" and "1,200" contain 12.
    assert not answer_in_chunks("12", chunks)


def test_the_bradley_terry_loss_by_hand():
    chosen = torch.tensor([2.0, 0.0])
    rejected = torch.tensor([1.0, 1.0])
    none = torch.zeros(2)
    # -log sigmoid(1) = 0.3133, -log sigmoid(-1) = 1.3133.
    loss = train_rm.bradley_terry_loss(chosen, rejected, none, torch.ones(2), 0.0)
    assert loss.item() == pytest.approx(0.8133, abs=1e-4)
    # A margin of 1 makes the first difference 0: -log sigmoid(0) = 0.6931; weights 2 and 0; 0.1 x 3^2 = 0.9.
    margins = torch.tensor([1.0, 0.0])
    loss = train_rm.bradley_terry_loss(chosen, rejected, margins, torch.tensor([2.0, 0.0]), 0.1)
    assert loss.item() == pytest.approx(0.6931 + 0.9, abs=1e-4)


def test_groups_and_kinds_weigh_alike():
    rows = []
    for group, kind in (("a", "x"), ("a", "x"), ("b", "x"), ("c", "y")):
        rows.append({"group": group, "kind": kind, "margin": 0.5})
    facts = pair_facts(rows, np.zeros(8), {**DEFAULTS, "margin_scale": 0.5})
    # Groups first: 1/2, 1/2, 1, 1; then kinds: both sum to 1; then the mean is 1.
    assert facts.weights.tolist() == pytest.approx([0.5, 0.5, 1.0, 2.0])
    assert facts.margins.tolist() == [0.25] * 4 and facts.kinds == ["x", "x", "x", "y"]
    del rows[0]["kind"]
    assert pair_facts(rows[:1], np.zeros(2), {**DEFAULTS, "pair_weights": []}).weights.tolist() == [1.0]


def test_a_rare_kind_counts_as_much_as_a_frequent_one():
    chosen = np.array([1.0, 1.0, 1.0, 0.0])
    found = macro_metrics(chosen, np.full(4, 0.5), ["x", "x", "x", "y"])
    assert found == {"accuracy": 0.5, "roc_auc": 0.5}


def test_pair_metrics_count_ties_half():
    assert pair_metrics(np.array([1.0, 0.5]), np.array([0.0, 0.5])) == {"accuracy": 0.75, "roc_auc": 0.875}


def test_a_group_is_on_one_side():
    rows = [{"group": f"g{i // 3}"} for i in range(60)]
    split = split_groups(rows, {"seed": 1, "val_fraction": 0.15, "test_fraction": 0.2})
    assert sorted(i for side in split.values() for i in side) == list(range(60))
    groups = []
    for side in split.values():
        groups.append({rows[i]["group"] for i in side})
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    # 20% and 15% of 60 pairs are 12 and 9; groups of three may leave a quota short by one group.
    assert 9 <= len(split["test"]) <= 12 and 6 <= len(split["val"]) <= 9


@pytest.mark.parametrize("width", [0, 8])
def test_a_head_learns_a_linear_preference_and_its_file_is_byte_identical(width, tmp_path):
    torch.manual_seed(0)
    direction = torch.randn(16)
    features = torch.randn(800, 16)
    chosen_first = features[0::2] @ direction > features[1::2] @ direction
    first = torch.where(chosen_first[:, None], features[0::2], features[1::2])
    second = torch.where(chosen_first[:, None], features[1::2], features[0::2])
    # Chosen and rejected alternate, as in the rows of a preferences file.
    features = torch.stack([first, second], 1).reshape(800, 16)
    config = {**DEFAULTS, "learning_rate": 0.05, "num_epochs": 10, "batch_size": 16, "head_width": width}
    pairs = pair_facts([{"group": f"g{i}", "margin": 0.0} for i in range(400)], np.zeros(800), config)
    split = {"train": list(range(240)), "val": list(range(240, 320)), "test": list(range(320, 400))}
    for name in ("a", "b"):
        history = train_rm.train(config, features, pairs, split, tmp_path / name)
    head, saved = load_head(tmp_path / "a/best")
    scores = rewards(head, features, np.zeros(800), saved["score_scale"])
    assert pair_metrics(scores[0::2][320:], scores[1::2][320:])["accuracy"] > (0.75 if width else 0.85)
    assert history["eval_metrics"][-1]["roc_auc"] > (0.75 if width else 0.8)
    # The head starts at zero, so the first loss is log 2.
    assert history["train_losses"][0] == pytest.approx(0.6931, abs=1e-3)
    assert history["chance_loss"] == pytest.approx(0.6931, abs=1e-3)
    files = [(tmp_path / name / "final/reward_head.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_the_loss_of_a_head_that_tells_nothing_apart_counts_margins(tmp_path):
    config = {**DEFAULTS, "num_epochs": 1, "batch_size": 16}
    pairs = pair_facts([{"group": f"g{i}", "margin": 1.0} for i in range(20)], np.zeros(40), config)
    split = {"train": list(range(12)), "val": list(range(12, 16)), "test": list(range(16, 20))}
    history = train_rm.train(config, torch.randn(40, 4), pairs, split, tmp_path)
    # -log sigmoid(-1) = log(1 + e).
    assert history["chance_loss"] == pytest.approx(1.3133, abs=1e-3)
    assert history["train_losses"][0] == pytest.approx(1.3133, abs=1e-3)


def test_a_directory_without_a_head_is_named(tmp_path):
    with pytest.raises(DataError, match="no reward model"):
        load_head(tmp_path)
    save_head(tmp_path / "x", RewardHead(4), {"a": 1})
    # Beside what it is given, a config has the hash of the weights that it belongs to.
    written = {"a": 1, "weights_sha256": sha256_file(tmp_path / "x/reward_head.safetensors")}
    assert load_head(tmp_path / "x")[1] == written
    assert json.loads((tmp_path / "x/config.json").read_text()) == written


@pytest.mark.parametrize("override", ["val_fraction=0", "test_fraction=1", "val_fraction=0.9"])
def test_a_split_without_train_val_or_test_is_refused(override, tmp_path):
    config = tmp_path / "rm.yaml"
    config.write_text("test_fraction: 0.2\n")
    with pytest.raises(UsageError, match="add up to less than 1"):
        train_rm.main(["-c", str(config), "--set", override])


@pytest.mark.parametrize("row", [{"id": "a"}, {}])
def test_rows_to_score_lack_no_field(row, tmp_path):
    config = tmp_path / "rm.yaml"
    config.write_text("seed: 1\n")
    write_jsonl(tmp_path / "c.jsonl", [row])
    with pytest.raises(DataError, match=r"c.jsonl:1: row lacks .*completion; needed are id"):
        train_rm.main(["-c", str(config), "--score", str(tmp_path / "c.jsonl")])


def as_pair(chosen, rejected):
    return {"chosen": [{"content": chosen}], "rejected": [{"content": rejected}]}


def test_pairs_that_the_head_reads_as_equal_are_dropped_and_counted(tokenizer):
    start = "word " * COMPLETION_TOKENS
    pairs = [
        as_pair("a", "b"),
        as_pair(start + "one end", start + "another end"),
        as_pair(start, start + "more"),
        as_pair("the same", "the same"),
        # Only one of the two is cut, so they differ.
        as_pair("word", start),
    ]
    kept, drops = drop_equal_pairs(pairs, tokenizer)
    assert kept == [pairs[0], pairs[4]]
    assert drops == {"equal after the cut at 159 tokens": 2, "equal completions": 1}
    with pytest.raises(DataError, match="no pair of the preferences is left .2 equal after the cut"):
        drop_equal_pairs(pairs[1:3], tokenizer)


def test_a_completion_is_cut_only_beyond_the_limit(tokenizer):
    limit = COMPLETION_TOKENS - 1
    # The tokenizer is trained in the tests, so no text has a known number of tokens; 400 words are enough.
    texts = ["", "short", "1 " * 400]
    completions, is_cut = encode_completions(tokenizer, [{"completion": text} for text in texts])
    assert is_cut == [False, False, True]
    assert completions[0] == [tokenizer.eos_token_id]
    assert len(completions[2]) == limit + 1 and completions[2][-1] == tokenizer.eos_token_id
    assert count_cut({"is_cut": torch.tensor(is_cut)}) == 1
    # A cache file of an earlier version does not say.
    assert count_cut({}) is None


def preference(i: int, sample: dict, rejected: str) -> dict:
    chosen = render_completion("Warsaw", [0], 0.9)
    return {
        "id": f"p{i}",
        "sample_id": sample["id"],
        "source": sample["source"],
        "group": f"g{i}",
        "question": sample["question"],
        "answerable": True,
        "evidence_chunks": sample["evidence_chunks"],
        "prompt": [{"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "margin": 1.0,
        "score_chosen": 1.0,
        "score_rejected": 0.0,
        "chosen_model": "sft",
        "rejected_model": "base",
        "decided_by": "verifier",
        "judge": {},
    }


def test_a_run_counts_the_completions_it_cuts_and_the_pairs_it_leaves_out(
    sample, tiny_gemma_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    rows = [preference(i, sample, "nothing " * (1 + i % 3)) for i in range(10)]
    # This one is cut; of the two rows behind --limit nothing is read.
    rows[4]["rejected"][0]["content"] = "nothing " * 400
    rows += [preference(i, sample, "nothing " * 400) for i in (10, 11)]
    write_jsonl(tmp_path / "p.jsonl", rows)
    config = {"base_model": str(tiny_gemma_dir), "val_fraction": 0.2, "test_fraction": 0.2, "num_epochs": 1}
    (tmp_path / "rm.yaml").write_text(json.dumps(config))
    run = ["-c", str(tmp_path / "rm.yaml"), "--prefs", "p.jsonl", "--limit", "10"]
    for flags in (run, [*run, "--validate-only"]):
        train_rm.main(flags)
        printed = capsys.readouterr()
        assert "cut 1 of 20 completions after 159 tokens" in printed.err
        assert "(train 6, val 2, test 2 pairs, dropped 2: over --limit 2)" in printed.out
        validation = read_json(tmp_path / "checkpoints/rm/validation.json")
        assert validation["n_cut_completions"] == 1 and validation["max_completion_tokens"] == 159


def test_intervals_equal_a_plain_loop_over_the_same_draws(monkeypatch):
    rng = np.random.default_rng(3)
    groups = [f"g{i % 25}" for i in range(60)]
    # Rounded, so that scores tie within pairs and across them.
    chosen = rng.normal(0.5, 1, 60).round(1)
    rejected = rng.normal(0, 1, 60).round(1)
    counts = draw_counts(25, 5)[:300]
    for module in ("utils.intervals", "utils.intervals"):
        monkeypatch.setattr(f"{module}.draw_counts", lambda n_groups, seed: counts)
    found = interval(chosen, rejected, groups, seed=5)
    index, _ = group_index(groups)
    drawn = {"accuracy": [], "roc_auc": []}
    for of_group in counts.astype(int):
        rows = np.repeat(np.arange(60), of_group[index])
        metrics = pair_metrics(chosen[rows], rejected[rows])
        for name, values in drawn.items():
            values.append(metrics[name])
    for name, values in drawn.items():
        assert found[name] == pytest.approx(percentile_interval(np.array(values)))
    assert interval(chosen[:19], rejected[:19], groups[:19], 5) == {"accuracy": None, "roc_auc": None}
