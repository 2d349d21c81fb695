"""Versions of evidence: new orders, gold chunks alone, and at which steps of a run these are shown."""

import copy
import random

import pytest

from prompt_schema import SFT_TEMPLATES, PromptBuilder
from tests.test_sft_runs import HISTORY, train, write_config
from train_sft import gold_ids
from training.evidence_versions import short_sizes, shorten, shuffle_chunks, with_chunks
from training.rows import Versions, encode_epochs, encode_rows
from training.sampler import RowOrder, TwinSampler
from training.steps import opening_rows
from utils.jsonl import read_json
from utils.rules import sample_problem


def titles(sample: dict) -> list[str]:
    return [chunk["title"] for chunk in sample["evidence_chunks"]]


# --- one sample


def test_chunks_left_out_take_their_support_sets_with_them(sample):
    sample = sample | {"support_sets": [[0, 2], [1]], "support_spans": [0, 1, 2], "hard_negatives": [3]}
    part = with_chunks(sample, [3, 1, 2])
    assert titles(part) == ["Radium", "Pierre Curie", "Warsaw"]
    assert part["support_sets"] == [[1]]
    assert part["support_spans"] == [1]
    assert part["hard_negatives"] == [0]


def test_short_evidence_is_the_first_support_set_alone(sample):
    sample = sample | {"support_sets": [[1, 3], [2]], "support_spans": [1, 2, 3], "hard_negatives": [0]}
    before = copy.deepcopy(sample)
    short = shorten(sample, {})
    assert titles(short) == ["Pierre Curie", "Radium"]
    assert short["support_sets"] == [[0, 1]]
    assert not short["hard_negatives"]
    assert sample_problem(short) is None
    assert sample == before


def test_a_refusal_shows_as_many_chunks_as_its_question_has_gold_chunks(sample, unanswerable):
    # Two chunks of evidence would otherwise mean that there is no answer.
    sizes = short_sizes([sample, unanswerable], 1)
    short = shorten(unanswerable, sizes)
    assert titles(short) == ["Pierre Curie"]
    assert short["hard_negatives"] == [0]
    assert sample_problem(short) is None
    two = sample | {"support_sets": [[0, 2]]}
    assert len(shorten(unanswerable, short_sizes([two, unanswerable], 1))["evidence_chunks"]) == 2


def test_a_refusal_without_a_question_gets_the_size_of_one_of_its_source(sample, unanswerable):
    questions = [sample | {"id": f"popqa:{i}", "support_sets": [[0, 2] if i % 2 else [0]]} for i in range(20)]
    refusals = [unanswerable | {"id": f"popqa:r{i}", "metadata": {}} for i in range(200)]
    sizes = short_sizes([*questions, *refusals], 1)
    drawn = [sizes[refusal["id"]] for refusal in refusals]
    assert 70 < drawn.count(1) < 130
    assert drawn.count(1) + drawn.count(2) == 200
    # Whatever else is in the data.
    assert short_sizes([*questions, refusals[7]], 1)["popqa:r7"] == sizes["popqa:r7"]
    # A source of refusals alone.
    assert shorten(refusals[0], short_sizes(refusals[:1], 1))["hard_negatives"] == [0]


def test_orders_are_drawn_for_each_sample(sample):
    samples = [sample | {"id": f"popqa:{i}"} for i in range(8)]
    shuffled = shuffle_chunks(samples, random.Random(1))
    assert len({tuple(titles(s)) for s in shuffled}) > 3
    for s in shuffled:
        assert sample_problem(s) is None
        assert {titles(s)[i] for i in s["support_spans"]} == {"Marie Curie", "Warsaw"}


# --- a run


def test_the_rows_of_the_opening_steps_are_counted_by_epoch():
    training = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": -1}
    training["num_train_epochs"] = 2
    # 26 rows are 7 steps per epoch, 14 in all; the last step of an epoch has 2 rows.
    assert opening_rows(0.0, 26, training, 1) == ()
    assert opening_rows(0.3, 26, training, 1) == (16,)
    assert opening_rows(0.5, 26, training, 1) == (26,)
    assert opening_rows(0.7, 26, training, 1) == (26, 12)
    # Two processes: 4 steps per epoch.
    assert opening_rows(0.25, 26, training, 2) == (16,)


def test_the_opening_steps_read_the_short_version_of_their_epochs_block():
    units = [f"q{i // 2}" for i in range(40)]
    order = RowOrder(twins_adjacent=True, n_blocks=2, n_short=2, short_rows=(40, 11))
    sampler = TwinSampler(units, [9] * 40, [i % 2 == 0 for i in range(40)], 3, order, [5] * 40)
    assert len(sampler) == 40
    assert sorted(sampler) == list(range(80, 120))
    sampler.set_epoch(1)
    rows = list(sampler)
    short = [row - 120 for row in rows if row >= 120]
    # Whole units: a question and its twin are both short or both long, and every row comes once.
    assert len(short) == 12
    assert {units[row] for row in short}.isdisjoint(units[row - 40] for row in rows if row < 80)
    assert sorted([*short, *(row - 40 for row in rows if row < 80)]) == list(range(40))
    assert all(row >= 120 for row in rows[:12])
    sampler.set_epoch(2)
    assert sorted(sampler) == list(range(40))


def test_short_versions_follow_the_blocks_whose_orders_they_have(tokenizer, samples):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1400)
    chosen = samples[:8]

    def encode(block):
        return encode_rows(block, builder, gold_ids, 1500)

    plain, _ = encode_epochs(chosen, Versions(n_orders=2), 5, encode)
    rows, drops = encode_epochs(chosen, Versions(n_orders=2, n_short=2), 5, encode)
    assert rows[:16] == plain
    assert not drops
    sizes = short_sizes(chosen, 5)
    by_hand, _ = encode([shorten(sample, sizes) for sample in chosen])
    assert rows[16:24] == by_hand
    assert [row["id"] for row in rows[24:]] == [row["id"] for row in by_hand]
    assert all(len(row["suffix"]) <= len(long["suffix"]) for row, long in zip(by_hand, plain))


def test_a_run_opens_with_short_evidence_and_resumes_within_it(tiny_gemma_dir, home, capsys):
    config = write_config(home, tiny_gemma_dir, max_steps=8, save_total_limit=9)
    values = ("bf16=false", "data.short_evidence_first=0.5")
    train(config, *values)
    # 12 samples and batches of 2: of 8 steps the first 4, which are 8 rows.
    assert "8 rows first with short evidence" in capsys.readouterr().err
    assert read_json(home / "sft/run.json")["settings"]["data"]["short_evidence_first"] == 0.5
    straight = read_json(home / "sft" / HISTORY)
    weights = (home / "sft/checkpoint-final/adapter_model.safetensors").read_bytes()

    for step in (4, 6, 8):
        (home / f"sft/checkpoint-{step}/run.json").unlink()
    manifest = (home / "sft/run.json").read_text()
    (home / "sft/run.json").write_text(manifest.replace('"complete"', '"running"'))
    train(config, *values)
    assert "resuming from" in capsys.readouterr().err
    assert (home / "sft/checkpoint-final/adapter_model.safetensors").read_bytes() == weights
    assert read_json(home / "sft" / HISTORY)["train_losses"] == straight["train_losses"]

    train(config, "bf16=false", "output_dir=plain")
    plain = [log["loss"] for log in read_json(home / "plain" / HISTORY)["train_losses"]]
    assert [log["loss"] for log in straight["train_losses"]][0] != pytest.approx(plain[0], rel=1e-5)
