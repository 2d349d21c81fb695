"""The verdict on an evaluation in words, the three samples, and tables that fit a terminal."""

import pytest

import evaluate_sft_fast_robust as evaluation
from evaluation.columns import TERMINAL_COLUMNS, format_table
from evaluation.results import score_all
from evaluation.tables import results_text
from reporting.answered import answered_samples, three_samples, three_samples_text
from reporting.verdict import caveats, plain_verdict, verdict_sentence, verdict_text
from tests.canned import canned_rows, gold_rows
from utils.completions import render_completion
from utils.jsonl import write_jsonl
from utils.metrics import DELTA_METRICS, PAIRED
from utils.schema import read_samples
from utils.text import REFUSAL

# --- the verdict


def deltas(net_score: float, interval: list[float] | None, **others: float) -> dict:
    """A block of paired differences: those of net_score, and 0 with a narrow interval for all others."""
    block: dict = {**dict.fromkeys(PAIRED, 0.0), **others, "net_score": net_score}
    intervals: dict = {
        name: None if interval is None else [value - 0.1, value + 0.1] for name, value in block.items()
    }
    smallest: dict = dict.fromkeys(PAIRED, 0.14 if interval else None)
    return {**block, "ci95": {**intervals, "net_score": interval}, "smallest_detectable": smallest}


def results(to_base: dict | None, to_rule: dict | None = None) -> dict:
    """A results object with as much as the verdict reads."""
    found: dict = {
        "sft": {"n": 1210, "net_score": 0.4, "answered_rate": 0.65},
        "baselines": {},
        "deltas_to": {},
    }
    if to_base:
        found["base"] = {"answered_rate": 0.05}
        found["deltas_to"]["base"] = to_base
    if to_rule:
        found["baselines"]["lexical"] = {"net_score": 0.3}
        found["deltas_to"]["lexical"] = to_rule
    return found


START = "On 1,210 samples the SFT model has a net score of 0.400"
RULE = "lexical, the strongest rule without a model"
NO_BASE = "Its base was not evaluated: add --compare-baseline to see what training changed."


@pytest.mark.parametrize(
    "found, sentence",
    [
        (
            results(deltas(0.2, [0.1, 0.3])),
            f"{START}: better than its base by 0.200 (95% interval 0.100 to 0.300).",
        ),
        (
            results(deltas(-0.2, [-0.35, -0.1])),
            f"{START}: worse than its base by 0.200 (95% interval 0.100 to 0.350).",
        ),
        (
            results(deltas(0.05, [-0.1, 0.2])),
            f"{START}: tied with its base (+0.050, 95% interval -0.100 to +0.200).",
        ),
        (
            results(deltas(0.2, None)),
            f"{START}: undecided against its base (+0.200, no interval: under 20 groups).",
        ),
        (
            results(deltas(0.2, [0.1, 0.3]), deltas(-0.02, [-0.2, 0.1])),
            f"{START}: better than its base by 0.200 (95% interval 0.100 to 0.300) "
            f"and tied with {RULE} (-0.020, 95% interval -0.200 to +0.100).",
        ),
        (
            results(None, deltas(0.1, [0.05, 0.15])),
            f"{START}: better than {RULE} by 0.100 (95% interval 0.050 to 0.150). {NO_BASE}",
        ),
        (results(None), f"{START}. {NO_BASE}"),
        # An interval that touches 0 includes it.
        (
            results(deltas(0.1, [0.0, 0.2])),
            f"{START}: tied with its base (+0.100, 95% interval +0.000 to +0.200).",
        ),
        (
            {"baselines": {"mine": {}}},
            "No verdict: the evaluation has no model named sft (models: mine).",
        ),
    ],
)
def test_the_verdict_in_words(found, sentence):
    assert verdict_sentence(found) == sentence


ANSWERS = "It answers 61% of the answerable questions in the words of an accepted answer"
REFUSES = "refuses 53% of the unanswerable ones"


@pytest.mark.parametrize(
    "metrics, to_silence, sentence",
    [
        ({}, deltas(0.0, [-0.1, 0.1]), f"{ANSWERS}, {REFUSES}, and is no better than refusing everything."),
        ({}, deltas(0.2, [0.1, 0.3]), f"{ANSWERS}, {REFUSES}, and is better than refusing everything."),
        ({}, deltas(-0.2, [-0.3, -0.1]), f"{ANSWERS}, {REFUSES}, and is worse than refusing everything."),
        (
            {},
            deltas(0.2, None),
            f"{ANSWERS}, {REFUSES}, and was tried on too few samples to tell whether it is better than "
            "refusing everything.",
        ),
        ({}, None, f"{ANSWERS} and {REFUSES}."),
        # A test set without unanswerable questions, or without answerable ones.
        (
            {"under_refusal_rate": None},
            deltas(0.2, [0.1, 0.3]),
            f"{ANSWERS} and is better than refusing everything.",
        ),
        ({"em_answerable": None}, None, f"It {REFUSES}."),
        ({"em_answerable": None, "under_refusal_rate": None}, deltas(0.2, [0.1, 0.3]), ""),
    ],
)
def test_the_verdict_starts_in_plain_words(metrics, to_silence, sentence):
    found = results(None)
    found["sft"] |= {"em_answerable": 0.614, "under_refusal_rate": 0.471, **metrics}
    if to_silence:
        found["deltas_to"]["always_refuse"] = to_silence
    assert plain_verdict(found) == sentence
    text = " ".join(verdict_text(found).split())
    assert text == f"{sentence} {verdict_sentence(found)}".strip()


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"decisions": "fitted"}, ", with decisions fitted on val,"),
        ({"orders": 3}, ", asked in 3 orders of the evidence,"),
        (
            {"decisions": "fitted", "orders": 3},
            ", with decisions fitted on val and asked in 3 orders of the evidence,",
        ),
        ({"decisions": "plain", "orders": None}, ""),
    ],
)
def test_the_verdict_says_how_the_model_was_asked(settings, words):
    found = {**results(None), "run": {"settings": settings}}
    assert verdict_sentence(found) == (
        f"On 1,210 samples the SFT model{words} has a net score of 0.400. {NO_BASE}"
    )


def test_the_verdict_is_followed_by_what_speaks_against_it():
    changed = {"hallucination_rate": -0.25, "citation_f1": -0.2, "em": 0.5}
    found = results(deltas(0.2, [0.1, 0.3], **changed), deltas(0.0, [-0.1, 0.1]))
    found["sft"] |= {"hallucination_rate": 0.25, "citation_f1": 0.3}
    found["base"] |= {"hallucination_rate": 0.0, "citation_f1": 0.5}
    assert "hallucination_rate" in DELTA_METRICS
    # In the order of the tables.
    assert caveats(found) == [
        "It is worse than its base in citation_f1 (30% against 50%).",
        "It makes up answers more often than its base (25% against 0%): "
        "the base answers 5% of the questions.",
        "This test set is too small to show a difference from lexical of less than 0.14.",
    ]
    # Better than both, and worse in nothing.
    assert caveats(results(deltas(0.2, [0.1, 0.3]), deltas(0.2, [0.1, 0.3]))) == []
    assert caveats(results(deltas(0.2, None), deltas(-0.2, None))) == []


# --- three samples


def answered(samples: list[dict], completions: list[str]) -> list:
    rows = []
    for sample, completion in zip(samples, completions):
        rows.append({"id": sample["id"], "model": "sft", "completion": completion})
    _, parsed = score_all(rows, samples, 0)
    return answered_samples(samples, parsed, rows)


def test_three_samples_are_a_right_one_a_refusal_and_the_commonest_failure(sample, unanswerable):
    right = render_completion("Warsaw", [0], 0.9)
    wrong = render_completion("Paris", [1], 0.8)
    refusal = render_completion(REFUSAL, [], 0.0)
    samples = [{**sample, "id": f"s{i}"} for i in range(5)] + [unanswerable]
    rows = answered(samples, [wrong, right, "no JSON", "none either", right, refusal])
    found = three_samples(rows)
    ids = {place: row.sample["id"] for place, row in found.items()}
    assert ids == {"right answer": "s1", "right refusal": unanswerable["id"], "failure": "s2"}

    text = three_samples_text(rows)
    assert "right answer: s1" in text and "Warsaw [0]" in text
    assert "failure (unparsable): s2" in text and "no JSON" in text and "gold     Warsaw" in text
    # A few lines each, none wider than a terminal.
    assert len(text.splitlines()) < 25
    assert max(map(len, text.splitlines())) <= TERMINAL_COLUMNS


def test_a_missing_kind_of_sample_is_said(sample):
    text = three_samples_text(answered([sample], [render_completion("Warsaw", [0], 0.9)]))
    assert "right refusal: none in this evaluation" in text and "failure: none" in text


def test_no_answer_moves_the_cursor_or_breaks_the_terminal(sample, monkeypatch):
    hostile = render_completion("Krak\u00f3w\x1b[2J\r\n", [0, 7], 0.9)
    text = three_samples_text(answered([sample], [hostile]))
    assert "\x1b" not in text and "\r" not in text and "[not shown]" in text
    monkeypatch.setattr("sys.stdout", type("Ascii", (), {"encoding": "ascii"})())
    text = three_samples_text(answered([sample], [hostile]))
    assert text.isascii() and "Krak?w" in text


# --- tables


def test_a_wide_table_continues_below_with_its_first_column():
    table = format_table(["metric", *(f"model number {i}" for i in range(9))], [["em", *"123456789"]])
    lines = table.splitlines()
    assert max(map(len, lines)) <= TERMINAL_COLUMNS
    cells = [line.split() for line in lines if line.startswith("em")]
    assert cells == [["em", *"1234"], ["em", *"5678"], ["em", "9"]]


def test_a_long_cell_is_cut_in_its_middle():
    path = "checkpoints/" + "x" * 200 + "/checkpoint-best"
    table = format_table(["path", "value"], [[path, path]])
    assert max(map(len, table.splitlines())) <= TERMINAL_COLUMNS
    assert "checkpoints/" in table and "checkpoint-best" in table


def test_every_table_of_an_evaluation_and_of_a_comparison_fits_a_terminal(home, data_home, capsys):
    samples = read_samples(data_home / "data/processed/test.jsonl")
    # Names that users choose, as long as they like.
    long = "handbook-of-a-company-with-a-very-long-name"
    samples = [{**s, "source": long, "id": f"{long}:{s['id']}", "metadata": {}} for s in samples]
    names = ("sft", "base", "base_fewshot_constrained", "a-model-of-somebody-else-7b-instruct-v0.3-awq")
    rows = []
    for seed, name in enumerate(names):
        rows += canned_rows(samples, name, 0.3, seed)
    write_jsonl(home / "test.jsonl", samples)
    write_jsonl(home / "p.jsonl", rows)
    write_jsonl(home / "q.jsonl", gold_rows(samples) + gold_rows(samples, names[3]))
    evaluation.main("--predictions p.jsonl --test-data test.jsonl --output a.json".split())
    evaluation.main("--predictions q.jsonl --test-data test.jsonl --output b.json".split())
    capsys.readouterr()
    evaluation.main("--compare a.json b.json".split())
    text = capsys.readouterr().out
    # The places of the two files are as long as they are.
    tables = [line for line in text.splitlines() if not line.startswith(("A = ", "B = "))]
    assert max(map(len, tables)) <= TERMINAL_COLUMNS

    results, _ = score_all(rows, samples, 0)
    text = results_text(results)
    assert max(map(len, text.splitlines())) <= TERMINAL_COLUMNS
    assert "net_score" in text and "sft against base" in text
