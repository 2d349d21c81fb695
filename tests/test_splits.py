"""Groups that keep what belongs together, their cutting, and splits that have their share of every source."""

import dataclasses
import random
from collections import Counter

from evidence.chunks import Chunk
from evidence.duplicates import near_duplicates
from evidence.groups import group_supports
from evidence.records import Record
from evidence.splits import SPLITS, assign_splits
from evidence.support import Support
from utils.text import shingles

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def support(i, pages, question=None, official="train", source="hotpotqa", answerable=True):
    # Questions without a given text share one word in seven, far below the threshold of near-duplicates.
    question = question or f"question {i} {' '.join(f'w{i}x{k}' for k in range(6))}"
    record = Record(
        id=f"{source}:{i}",
        source=source,
        question=question,
        answers=("x",),
        answerable=answerable,
        official_split=official,
    )
    chunks = tuple(Chunk(page, "text", (0,)) for page in pages)
    return Support(record, ("x",), (chunks,), "gold annotation")


def split(supports, respect_official=True):
    """(split by row, dropped rows) after groups and splits were made as build_data.py makes them."""
    rng = random.Random(0)
    named = group_supports(supports, SHARES["train"], respect_official, rng)
    kept = [(s, group) for s, group in zip(supports, named) if group is not None]
    supports_kept = [s for s, _ in kept]
    groups = [group for _, group in kept]
    split_of = assign_splits(supports_kept, groups, SHARES, respect_official, rng)
    return [(s, split_of[group]) for s, group in kept], len(supports) - len(kept)


def shared_pages(placed):
    """How many pages support rows of more than one split."""
    sides = {}
    for s, name in placed:
        for page in s.pages:
            sides.setdefault(page, set()).add(name)
    return sum(len(names) > 1 for names in sides.values())


def test_the_prefix_filter_finds_every_near_duplicate():
    # Twelve words only, and copies with a word more: many pairs on both sides of every threshold.
    rng = random.Random(1)
    words = [f"w{i}" for i in range(12)]
    questions = []
    for _ in range(400):
        n_words = rng.randint(2, 9)
        questions.append(" ".join(rng.choice(words) for _ in range(n_words)))
    questions += [q + " " + rng.choice(words) for q in questions[:100]]
    sets = [shingles(q) for q in questions]
    for threshold in (0.6, 0.8, 1.0):
        # All pairs compared one by one, which the filter is there to avoid.
        expected = set()
        for i in range(500):
            for j in range(i + 1, 500):
                if len(sets[i] & sets[j]) >= threshold * len(sets[i] | sets[j]) - 1e-9:
                    expected.add((i, j))
        found = near_duplicates(questions, threshold)
        assert set(found) == expected
        assert len(found) == len(expected)


def test_questions_without_any_word_are_no_near_duplicates():
    assert near_duplicates(["🎉?", "...", "🎉?"]) == []
    assert near_duplicates(["🎉?", "who built it", "🎉?", "Who built it?"]) == [(1, 3)]


def test_rows_of_one_page_and_near_duplicate_questions_stay_together():
    same = "in which year was the old lighthouse on the northern cape built"
    rows = [
        support(0, ["A"]),
        support(1, ["A", "B"]),
        support(2, ["B"]),
        support(3, ["C"], same),
        support(4, ["D"], same + " exactly"),
    ]
    groups = group_supports(rows, 0.8, True, random.Random(0))
    assert groups[0] == groups[1] == groups[2] != groups[3] and groups[3] == groups[4]


def test_chains_of_shared_pages_are_cut_without_leaks_and_with_few_drops():
    # Two pages per question, drawn like Wikipedia's: a few in many questions. Almost all rows are connected.
    rng = random.Random(2)

    def page():
        is_popular = rng.random() < 0.2
        return f"p{int(rng.paretovariate(0.9)) % 3000 if is_popular else rng.randrange(9000)}"

    rows = []
    for i in range(6000):
        pages = {page(), page()}
        rows.append(support(i, pages, official="dev" if rng.random() < 0.08 else "train"))
    placed, n_dropped = split(rows)
    sizes = Counter(name for _, name in placed)
    assert shared_pages(placed) == 0
    assert n_dropped <= 0.2 * len(rows), n_dropped
    # Official held-out rows never reach train, even where that costs rows.
    assert not any(name == "train" and s.record.official_split == "dev" for s, name in placed)
    assert all(sizes[name] >= 0.04 * len(rows) for name in SPLITS), sizes


def test_small_groups_are_never_cut():
    # Groups of five rows, a hundredth of all: any split can take them whole.
    rows = [support(i, [f"p{i // 5}"], official="dev" if i % 50 == 0 else "train") for i in range(500)]
    placed, n_dropped = split(rows)
    assert n_dropped == 0
    assert shared_pages(placed) == 0
    sizes = Counter(name for _, name in placed)
    assert abs(sizes["train"] - 400) <= 10
    assert abs(sizes["test"] - 50) <= 10


def test_splits_are_stratified_by_source_and_answerability():
    rows = [
        support(i, [f"p{i}"], source=("fever", "popqa")[i % 2], answerable=i % 3 > 0) for i in range(1200)
    ]
    placed, _ = split(rows)
    counts = Counter((s.record.source, s.record.answerable, name) for s, name in placed)
    for source in ("fever", "popqa"):
        for answerable in (True, False):
            total = sum(counts[source, answerable, name] for name in SPLITS)
            assert abs(counts[source, answerable, "test"] / total - 0.1) < 0.02


def topic_rows():
    """35 articles of 40 rows, one page each; some rows of all articles ask the same question."""
    same = "what was its population at the end of the last century"
    return [support(i, [f"a{i // 40}"], same if i % 97 == 0 else None, official="any") for i in range(1400)]


def test_articles_that_a_few_equal_questions_connect_lose_those_rows_alone():
    placed, n_dropped = split(topic_rows())
    assert shared_pages(placed) == 0
    assert n_dropped <= 15
    sizes = Counter(name for _, name in placed)
    # Whole articles of 40 rows: about one more or less is as near as they allow.
    assert abs(sizes["train"] - 1120) <= 50, sizes
    assert abs(sizes["val"] - 140) <= 40, sizes
    assert abs(sizes["test"] - 140) <= 40, sizes


def test_official_held_out_rows_of_one_group_fill_val_and_test():
    rows = topic_rows()
    for i, row in enumerate(rows):
        official = "dev" if i >= 700 else "train"
        rows[i] = dataclasses.replace(row, record=dataclasses.replace(row.record, official_split=official))
    placed, n_dropped = split(rows)
    sizes = Counter(name for _, name in placed)
    assert n_dropped <= 40, n_dropped
    assert sizes["val"] >= 250, sizes
    assert sizes["test"] >= 250, sizes


def test_rows_of_one_page_stay_whole():
    rows = [support(i, ["Handbook"], official="any") for i in range(300)]
    placed, n_dropped = split(rows)
    assert n_dropped == 0
    assert {name for _, name in placed} == {"train"}
