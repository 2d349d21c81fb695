"""How samples become training rows, and in which order they come."""

import json
import random
import statistics
from collections import Counter
from types import SimpleNamespace

import pytest
from datasets import Dataset

from prompt_schema import SFT_TEMPLATES, PromptBuilder
from train_sft import gold_ids
from training.rows import Versions, encode_epochs, encode_rows
from training.sampler import RowOrder, TwinSampler, rows_to_sort
from training.trainer import CompletionTrainer
from utils.errors import DataError

# --- encoded rows


def test_rows_without_a_supervised_token_are_refused(tokenizer, samples):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1400)
    # 100 tokens are fewer than the prefix has: training would run on nothing, with a loss of 0 or NaN.
    with pytest.raises(DataError, match="raise training.max_seq_length"):
        encode_rows(samples[:3], builder, gold_ids, 100)


def test_later_epochs_show_the_chunks_in_a_new_order_and_cite_them_there(tokenizer, samples):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1400)
    chosen = samples[:8]
    three = Versions(n_orders=3)
    rows, drops = encode_epochs(chosen, three, 5, lambda block: encode_rows(block, builder, gold_ids, 1500))
    assert [row["id"] for row in rows] == 3 * [sample["id"] for sample in chosen]
    assert not drops
    # Of 24 prompts, most differ from those of other epochs; three chunks have six orders, so some repeat.
    assert len({tuple(row["suffix"]) for row in rows}) > 16

    # The first epoch drops none, the second one row, the third two: six are left in each, and two are
    # counted.
    later = iter(range(3))

    def encode_fewer(block):
        n_dropped = next(later)
        kept, _ = encode_rows(block[: 8 - n_dropped], builder, gold_ids, 1500)
        return kept, Counter({"support cut": n_dropped} if n_dropped else {})

    fewer, drops = encode_epochs(chosen, three, 5, encode_fewer)
    assert len(fewer) == 3 * 6
    assert drops == {"does not fit in the chunk order of a later epoch": 2}

    # Each number that a completion cites is, in its own prompt, the number of a supporting chunk.
    for row, sample in zip(rows, 3 * chosen):
        prompt = tokenizer.decode(row["suffix"])
        completion = json.loads(tokenizer.decode(row["completion"], skip_special_tokens=True))
        support = sample["support_sets"][0] if sample["answerable"] else []
        texts = {sample["evidence_chunks"][k]["text"] for k in support}
        for place, i in zip(completion["citations"], support):
            shown = prompt.split(f"[{place}] ", 1)[1].split(f" [{place}]")[0]
            assert any(text in shown for text in texts), (place, i)


# --- the order of an epoch


def test_twins_stay_neighbours_and_every_row_comes_once():
    units = ["a", "b", "a", "c", "b", "d"]
    lengths = [5, 9, 6, 1, 9, 7]
    answerable = [True, True, False, True, False, False]
    sampler = TwinSampler(units, lengths, answerable, seed=3)
    order = list(sampler)
    assert sorted(order) == list(range(6))
    assert order == list(TwinSampler(units, lengths, answerable, seed=3))
    for unit in "ab":
        first, second = (k for k, i in enumerate(order) if units[i] == unit)
        assert abs(first - second) == 1
    # Fewer than 64 questions are one run, sorted by length.
    assert [units[i] for i in order] == ["c", "a", "a", "d", "b", "b"]


def mixed_rows(n_questions: int) -> list[dict]:
    """Two thirds short rows of FEVER, one third long ones; every second question has a twin."""
    rng = random.Random(0)
    rows = []
    for i in range(n_questions):
        is_fever = i % 3 != 0
        length = rng.randint(150, 350) if is_fever else rng.randint(400, 900)
        row = {
            "id": f"{i}",
            "unit": f"{i}",
            "answerable": True,
            "suffix": [5] * length,
            "completion": [7] * 9,
        }
        rows.append(row | {"source": "fever" if is_fever else "hotpotqa"})
        if i % 2:
            rows.append(row | {"id": f"{i}:unanswerable", "answerable": False, "source": rows[-1]["source"]})
    return rows


def ordered_rows(rows: list[dict], batch_size: int, n_accumulated: int, n_processes: int = 1) -> list[dict]:
    """The rows in the order in which a trainer with these settings reads them."""
    trainer = CompletionTrainer.__new__(CompletionTrainer)
    trainer.train_dataset = Dataset.from_list(rows)
    trainer.order = RowOrder(twins_adjacent=True)
    trainer.args = SimpleNamespace(
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=n_accumulated,
        world_size=n_processes,
        seed=3,
    )
    return [rows[i] for i in trainer._get_train_sampler()]


def spread_of_steps(rows: list[dict], n_per_step: int) -> tuple[float, float]:
    """(standard deviation of the steps' mean length, of their FEVER share), as parts of the rows' own."""
    lengths = [len(row["suffix"]) for row in rows]
    is_fever = [float(row["source"] == "fever") for row in rows]
    spreads = []
    for values in (lengths, is_fever):
        starts = range(0, len(rows) - n_per_step + 1, n_per_step)
        means = [statistics.mean(values[start : start + n_per_step]) for start in starts]
        spreads.append(statistics.pstdev(means) / statistics.pstdev(values))
    return spreads[0], spreads[1]


def test_a_step_has_the_same_rows_on_any_number_of_processes():
    # A single batch is as in the demo: runs of 64 questions.
    assert rows_to_sort(4, 1, 1) is None
    assert rows_to_sort(4, 1, 2) == rows_to_sort(4, 2, 1) == 8
    assert rows_to_sort(4, 2, 4) == rows_to_sort(4, 8, 1) == 32
    assert rows_to_sort(1, 16, 2) == rows_to_sort(1, 32, 1)


@pytest.mark.parametrize(
    "batch_size, n_accumulated, n_processes", [(1, 16, 1), (1, 64, 1), (2, 8, 1), (2, 4, 2)]
)
def test_an_optimizer_step_is_a_random_sample_of_the_rows(batch_size, n_accumulated, n_processes):
    rows = mixed_rows(1024)
    ordered = ordered_rows(rows, batch_size, n_accumulated, n_processes)
    assert sorted(row["id"] for row in ordered) == sorted(row["id"] for row in rows)
    n_per_step = batch_size * n_accumulated * n_processes
    # In a random order, steps differ by 1/sqrt(n) of the rows' spread, and twins make that up to sqrt(5/3)
    # times as much. Sorted over 64 questions, the steps were several times as far apart.
    for spread in spread_of_steps(ordered, n_per_step):
        assert spread < 1.7 / n_per_step**0.5
    neighbors = sum(a["unit"] == b["unit"] for a, b in zip(ordered, ordered[1:]))
    # A pair is apart only where a step ends between its rows.
    assert neighbors >= 512 - len(rows) / n_per_step


def test_batches_of_several_rows_still_pad_little():
    rows = mixed_rows(512)
    shares = {}
    for batch_size, n_accumulated in ((8, 1), (8, 4), (1, 32)):
        lengths = [len(row["suffix"]) for row in ordered_rows(rows, batch_size, n_accumulated)]
        batches = [lengths[start : start + 8] for start in range(0, len(lengths), 8)]
        padded = sum(len(batch) * max(batch) for batch in batches)
        shares[batch_size, n_accumulated] = 1 - sum(lengths) / padded
    # As batches of 8, rows in a random order would be padding for two fifths.
    assert shares[8, 1] < 0.1
    assert shares[8, 4] < 0.2
    assert shares[1, 32] > 0.35


def test_answerable_rows_without_a_twin_may_come_first():
    # 50 questions with a twin, then 40 answerable and 20 unanswerable ones without.
    units = [f"q{i // 2}" for i in range(100)] + [f"s{i}" for i in range(60)]
    answerable = [i % 2 == 0 for i in range(100)] + [i < 40 for i in range(60)]
    order = list(TwinSampler(units, [1] * 160, answerable, 3, RowOrder(answerable_first=25 / 160)))
    assert sorted(order) == list(range(160))
    assert all(100 <= i < 140 for i in order[:25])
    assert not all(answerable[i] for i in order[25:50])


def test_each_epoch_has_another_order():
    units = [f"q{i}" for i in range(200)]
    sampler = TwinSampler(units, [1] * 200, [True] * 200, seed=3)
    order = list(sampler)
    sampler.set_epoch(1)
    assert sorted(sampler) == sorted(order)
    assert list(sampler) != order


def test_epochs_draw_from_blocks_of_their_own():
    sampler = TwinSampler([f"q{i}" for i in range(10)], [1] * 10, [True] * 10, 3, RowOrder(n_blocks=2))
    assert sorted(sampler) == list(range(10))
    assert len(sampler) == 10
    sampler.set_epoch(1)
    assert sorted(sampler) == list(range(10, 20))
    # Past the last block, the first one again.
    sampler.set_epoch(2)
    assert sorted(sampler) == list(range(10))
