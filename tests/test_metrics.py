"""Metrics against numbers worked by hand."""

import re
from pathlib import Path

import numpy as np
import pytest

from evaluation.confidence import confidence_intervals, confidence_metrics
from evaluation.tables import verdict
from utils.calibration import (
    apply_isotonic,
    aurc,
    brier,
    expected_calibration_error,
    fit_isotonic,
    reliability,
    risk_coverage,
    with_succession,
)
from utils.completions import parse_completion, render_completion
from utils.correctness import answer_overlap, exact_match
from utils.intervals import as_numbers, group_sums, paired_deltas, total, with_intervals
from utils.metrics import LOWER_IS_BETTER, RATES, rates_from_sums
from utils.scoring import citation_scores, hallucination_kind, outcome, score_sample
from utils.text import REFUSAL


def rates(pairs):
    """Metrics of (completion, sample) pairs."""
    terms = []
    for text, row in pairs:
        strict = parse_completion(text, len(row["evidence_chunks"]), strict=True)
        terms.append(score_sample(parse_completion(text, len(row["evidence_chunks"])), strict.is_valid, row))
    return as_numbers(rates_from_sums(total(group_sums(terms, [str(i) for i in range(len(terms))]))))


def answer(text, citations=(0,), confidence=0.9):
    return render_completion(text, list(citations), confidence)


REFUSE = render_completion(REFUSAL, [], 0.0)


def test_the_interval_of_ece_has_the_figure_in_it():
    rng = np.random.default_rng(1)
    groups = [str(i) for i in range(200)]
    for _ in range(20):
        stated = rng.random(200)
        right = (rng.random(200) < stated).tolist()
        low, high = confidence_intervals(stated.tolist(), right, groups, seed=1)["ece"]
        assert low <= expected_calibration_error(stated.tolist(), right) <= high


def test_squad_f1():
    # "warsaw old town" against "old warsaw": 2 words shared, precision 2/3, recall 1, F1 0.8.
    assert answer_overlap("the Warsaw old town", ["Old Warsaw"]) == pytest.approx((2 / 3, 1.0, 0.8))
    assert exact_match("The Warsaw!", ["warsaw"]) == 1.0


def test_label_answers_get_no_partial_credit():
    assert answer_overlap("yes indeed", ["yes"])[2] == 0.0
    assert answer_overlap("True", ["supported", "supports", "true", "yes"])[2] == 1.0


@pytest.mark.parametrize(
    "cited, expected",
    [
        ([0], (1.0, 1.0, 1.0, 1.0)),  # one full set
        ([0, 2], (1.0, 1.0, 1.0, 1.0)),  # both sets
        ([0, 1], (0.5, 1.0, 2 / 3, 0.0)),  # a stray citation
        ([0, -1, -1], (1 / 3, 1.0, 0.5, 0.0)),  # two out-of-range ids stay in the denominator
        ([1], (0.0, 0.0, 0.0, 0.0)),
        ([], (0.0, 0.0, 0.0, 0.0)),
        ([0, 0], (1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_citations_against_alternative_sets(cited, expected):
    assert citation_scores(cited, [[0], [2]], [0, 2]) == pytest.approx(expected)


def test_multi_hop_needs_every_chunk_of_the_set():
    # One of two hops: precision 1, recall 1/2, F1 2/3, not correct.
    assert citation_scores([0], [[0, 2]], [0, 2]) == pytest.approx((1.0, 0.5, 2 / 3, 0.0))


def test_hallucination_is_split_by_the_first_reason(sample, unanswerable):
    def kind(text, row):
        return hallucination_kind(parse_completion(text, 4), row)

    assert kind(answer("Paris", [1]), unanswerable) == "unanswerable"
    assert kind(answer("Paris", [0]), sample) == "wrong"
    assert kind(answer("Warsaw", [1]), sample) == "unsupported"
    assert kind(answer("Warsaw", [1, 2]), sample) is None
    assert kind(REFUSE, unanswerable) is None and kind("no json", unanswerable) is None


def test_a_small_table_by_hand(sample, unanswerable):
    # Right answer, wrong answer, over-refusal, right refusal, answered unanswerable, unparsable unanswerable.
    found = rates(
        [
            (answer("Warsaw"), sample),
            (answer("Paris"), sample),
            (REFUSE, sample),
            (REFUSE, unanswerable),
            (answer("Paris"), unanswerable),
            ("?", unanswerable),
        ]
    )
    assert found["em"] == pytest.approx(2 / 6) and found["em_answerable"] == pytest.approx(1 / 3)
    assert found["answered_rate"] == 0.5 and found["refusal_rate"] == pytest.approx(2 / 6)
    assert found["unparsable_rate"] == pytest.approx(1 / 6)
    assert found["over_refusal_rate"] == pytest.approx(1 / 3)
    assert found["under_refusal_rate"] == pytest.approx(2 / 3)
    # Refusing: precision 1/2, recall 1/3, F1 0.4. Answering: precision 2/3, recall 2/3, F1 2/3. Mean 8/15.
    assert found["refusal_f1"] == pytest.approx(8 / 15)
    assert found["hallucination_rate"] == pytest.approx(2 / 6)
    assert found["hallucination_given_answered"] == pytest.approx(2 / 3)
    # +1 right, -1 wrong, 0 refused, +1 refused, -1 answered, -1 unparsable.
    assert found["net_score"] == pytest.approx(-1 / 6)
    # Citations: 1, 1 (chunk 0 supports, though the answer is wrong), 0.
    assert found["citation_f1"] == pytest.approx(2 / 3)
    # Correct/answered 1/3 and correct/answerable 1/3: F1 1/3.
    assert found["trust_score"] == pytest.approx((8 / 15 + 1 / 3 + 2 / 3) / 3)
    assert found["schema_valid_rate"] == pytest.approx(5 / 6)


def test_joint_f1_multiplies_answer_and_citation_overlap(sample):
    # Answer "Warsaw Poland": precision 1/2, recall 1. Citations [0, 1]: precision 1/2, recall 1.
    # Joint: 1/4 and 1, F1 0.4.
    assert rates([(answer("Warsaw Poland", [0, 1]), sample)])["joint_f1"] == pytest.approx(0.4)


def test_all_wrong_answers_that_cite_look_perfect_to_the_weak_metric_only(sample):
    found = rates([(answer("Paris", [0]), sample)] * 3)
    assert found["legacy_uncited_rate"] == 0.0 and found["hallucination_rate"] == 1.0
    assert found["net_score"] == -1.0


def test_refusing_everything_earns_no_refusal_f1_above_half(sample, unanswerable):
    found = rates([(REFUSE, sample), (REFUSE, sample), (REFUSE, unanswerable)])
    # Refusing: precision 1/3, recall 1, F1 0.5; answering: 0.
    assert found["refusal_f1"] == pytest.approx(0.25) and found["em_answerable"] == 0.0
    assert found["over_refusal_rate"] == 1.0


def test_an_empty_denominator_is_null(sample):
    found = rates([(REFUSE, sample)])
    assert found["under_refusal_rate"] is None and found["refusal_f1"] is None
    assert found["hallucination_given_answered"] is None
    assert found["trust_score"] is None


def test_calibration_figures_by_hand():
    # Bin of 0.9: accuracy 0.5, gap 0.4; bin of 0.1: accuracy 0, gap 0.1. ECE (2*0.4 + 2*0.1)/4.
    right = [True, False, False, False]
    assert expected_calibration_error([0.9, 0.9, 0.1, 0.1], right) == pytest.approx(0.25)
    assert brier([1.0, 0.5], [True, False]) == pytest.approx(0.125)
    # Most confident first: risks 0, 0, 1/3.
    assert aurc([0.9, 0.8, 0.7], [True, True, False]) == pytest.approx((0 + 0 + 1 / 3) / 3)
    # Ties are averaged: both orders of the pair give risk 1/2 each.
    assert aurc([0.5, 0.5], [True, False]) == aurc([0.5, 0.5], [False, True]) == pytest.approx(0.5)
    assert expected_calibration_error([], []) is None


def test_missing_and_constant_confidence_are_flagged(sample):
    unstated = '{"answer": "Warsaw", "citations": [0]}'
    parsed = [parse_completion(text, 4) for text in (unstated, answer("Paris"))]
    found = confidence_metrics(parsed, [sample, sample], None, None)
    assert found["n_confidence_missing"] == 1 and found["confidence_is_constant"] is True
    assert found["ece"] == pytest.approx(0.9)


def test_the_rule_of_succession_is_never_certain():
    assert with_succession(1.0, 20) == pytest.approx(21 / 22)
    assert with_succession(0.0, 20) == pytest.approx(1 / 22)
    assert with_succession(0.75, 4) == pytest.approx(4 / 6)
    # Nothing seen: Laplace's even chance.
    assert with_succession(1.0, 0) == 0.5


def test_isotonic_calibration_is_monotone_and_refuses_tiny_data():
    probabilities = list(np.linspace(0, 1, 40))
    knots = fit_isotonic(probabilities, [p > 0.5 for p in probabilities])
    mapped = apply_isotonic(knots, [0.0, 0.3, 0.6, 1.0])
    assert mapped == sorted(mapped) and mapped[0] == 0.0 and mapped[-1] == 1.0
    assert fit_isotonic([0.5] * 5, [True] * 5) is None and fit_isotonic(probabilities, [True] * 40) is None


def make_terms(n, right, sample):
    text = answer("Warsaw") if right else answer("Paris")
    return [score_sample(parse_completion(text, 4), True, sample)] * n


def test_intervals_resample_groups_and_need_twenty(sample):
    terms = make_terms(30, True, sample) + make_terms(30, False, sample)
    wide = with_intervals(terms, [str(i // 2) for i in range(60)], seed=0)["ci95"]["em"]
    narrow = with_intervals(terms, [str(i) for i in range(60)], seed=0)["ci95"]["em"]
    # Normal approximation for single samples: 0.5 +- 1.96 * sqrt(0.25 / 60) = 0.127.
    # Pairs of equals are half as many independent draws, which widens it by sqrt(2).
    assert narrow == pytest.approx([0.373, 0.627], abs=0.03) and wide[0] < narrow[0] and wide[1] > narrow[1]
    assert with_intervals(terms, [str(i % 19) for i in range(60)], seed=0)["ci95"]["em"] is None


def test_a_delta_is_positive_when_the_first_model_is_better(sample):
    groups = [str(i) for i in range(40)]
    right = make_terms(40, True, sample)
    wrong = make_terms(40, False, sample)
    deltas = paired_deltas(right, wrong, groups, seed=0)
    # Also for the hallucination rate, of which less is better.
    assert deltas["em"] == 1.0 and deltas["hallucination_rate"] == 1.0 and deltas["ci95"]["em"] == [1.0, 1.0]
    assert paired_deltas(right, right, groups, seed=0)["ci95"]["em"] == [0.0, 0.0]
    # No sample differs: the spread is 0, and what could be detected is unknown.
    assert paired_deltas(right, right, groups, seed=0)["smallest_detectable"]["em"] is None


def test_the_smallest_detectable_difference_is_2_8_standard_errors(sample):
    # Of 100 pairs 20 differ, 10 in each direction: the standard error is sqrt(0.2 / 100) = 0.0447.
    right = make_terms(1, True, sample)[0]
    wrong = make_terms(1, False, sample)[0]
    first = [right] * 10 + [wrong] * 10 + [right] * 80
    second = [wrong] * 10 + [right] * 10 + [right] * 80
    deltas = paired_deltas(first, second, [str(i) for i in range(100)], seed=0)
    assert deltas["smallest_detectable"]["em"] == pytest.approx(2.8 * 0.0447, rel=0.05)
    few = paired_deltas(first[:15], second[:15], [str(i) for i in range(15)], seed=0)
    assert few["smallest_detectable"]["em"] is None


def test_format_rates_by_hand(sample):
    # Valid; fenced (read after repair); citing what was not shown (read, but no valid reply); prose.
    fenced = f"```json\n{answer('Warsaw')}\n```"
    beyond = answer("Warsaw", [9])
    completions = [answer("Warsaw"), fenced, beyond, "Warsaw, I think."]
    found = rates([(text, sample) for text in completions])
    assert (found["schema_valid_rate"], found["repaired_rate"], found["unparsable_rate"]) == (0.25, 0.5, 0.25)
    assert found["em"] == 0.75 and found["answered_rate"] == 0.75


def test_an_unparsable_reply_stays_in_every_denominator(sample, unanswerable):
    found = rates([("?", sample), ("?", unanswerable), (answer("Warsaw"), sample), (REFUSE, unanswerable)])
    assert found["em"] == found["f1"] == found["joint_f1"] == 0.5
    assert found["citation_precision"] == found["citation_correctness"] == 0.5
    assert found["under_refusal_rate"] == 0.5 and found["over_refusal_rate"] == 0.0
    assert found["refusal_rate"] == found["answered_rate"] == 0.25
    # Refusing: precision 1, recall 1/2, F1 2/3, and so is answering. Net: -1 - 1 + 1 + 1.
    assert found["refusal_f1"] == pytest.approx(2 / 3) and found["net_score"] == 0.0


def test_a_refusal_that_cites_is_right_but_spurious_and_not_joint(unanswerable):
    citing = '{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [1], "confidence": 0.0}'
    found = rates([(citing, unanswerable), (REFUSE, unanswerable)])
    assert found["em"] == 1.0 and found["net_score"] == 1.0 and found["spurious_citation_rate"] == 0.5
    assert found["joint_f1"] == 0.5
    assert found["schema_valid_rate"] == 0.5


def test_outcomes_in_words(sample, unanswerable):
    cases = [
        (answer("Warsaw"), sample, "right answer"),
        (answer("Warsaw", [1]), sample, "right answer, wrong support"),
        (answer("Paris"), sample, "wrong answer"),
        (REFUSE, sample, "over-refusal"),
        (REFUSE, unanswerable, "right refusal"),
        (answer("Paris"), unanswerable, "answered the unanswerable"),
        ("", sample, "unparsable"),
    ]
    for text, row, words in cases:
        assert outcome(parse_completion(text, 4), row) == words


def test_calibrated_error_reads_the_probability_through_the_fit(sample):
    parsed = [parse_completion(text, 4) for text in (answer("Warsaw"), answer("Paris"), REFUSE)]
    knots = {"x": [0.0, 1.0], "y": [0.0, 0.5]}
    # 0.8 -> 0.4, right: gap 0.6; 0.2 -> 0.1, wrong: gap 0.1; the refusal is left out. Mean 0.35.
    found = confidence_metrics(parsed, [sample] * 3, [0.8, 0.2, 0.9], knots)
    assert found["ece_calibrated"] == pytest.approx(0.35) and found["ece"] == pytest.approx(0.4)
    assert confidence_metrics(parsed, [sample] * 3, None, knots)["ece_calibrated"] is None


def test_curves_of_confidence_by_hand():
    confidences = [0.9, 0.9, 0.5, 0.1]
    right = [True, False, True, False]
    assert risk_coverage(confidences, right) == [
        {"threshold": 0.9, "coverage": 0.5, "risk": 0.5},
        {"threshold": 0.5, "coverage": 0.75, "risk": pytest.approx(1 / 3)},
        {"threshold": 0.1, "coverage": 1.0, "risk": 0.5},
    ]
    assert reliability(confidences, right) == [
        {"n": 1, "confidence": 0.1, "accuracy": 0.0},
        {"n": 1, "confidence": 0.5, "accuracy": 1.0},
        {"n": 2, "confidence": 0.9, "accuracy": 0.5},
    ]
    # A confidence of 1.0 belongs to the last bin, not to one of its own.
    last = {"n": 2, "confidence": pytest.approx(0.975), "accuracy": 1.0}
    assert reliability([0.95, 1.0], [True, True]) == [last]


def test_a_difference_whose_interval_touches_zero_is_none():
    # An interval that ends at 0 includes it.
    for touching in ([-0.1, 0.2], [0.0, 0.2], [-0.2, 0.0]):
        assert verdict(0.1, touching) == "tied"
    assert verdict(0.1, None) == "no interval: under 20 groups"
    assert verdict(0.1, [0.01, 0.2]) == "better"
    assert verdict(-0.1, [-0.2, -0.01]) == "worse"


def test_only_figures_over_all_or_all_answerable_samples_have_differences(sample):
    groups = [str(i) for i in range(30)]
    deltas = paired_deltas(make_terms(30, True, sample), make_terms(30, False, sample), groups, seed=0)
    assert {"em", "f1", "citation_correctness", "hallucination_rate", "over_refusal_rate"} <= deltas.keys()
    # What divides by the answers given, or by unanswerable samples, is no paired difference.
    others = {"hallucination_given_answered", "trust_score", "ece"}
    assert not deltas.keys() & (others | {"under_refusal_rate", "spurious_citation_rate"})
    # All answers here are right or all wrong on samples with an answer: no refusal figure.
    assert deltas["refusal_f1"] is None and deltas["ci95"]["refusal_f1"] is None


def test_every_rate_is_made_of_terms_of_a_sample(sample):
    terms = score_sample(parse_completion(answer("Warsaw"), 4), True, sample)
    for name, (numerator, denominator) in RATES.items():
        assert numerator in terms, f"{name}: utils/scoring.py, score_sample, makes no term {numerator!r}"
        assert denominator in terms, f"{name}: utils/scoring.py, score_sample, makes no term {denominator!r}"


def test_the_page_of_metrics_says_which_way_is_better():
    # A metric missing from LOWER_IS_BETTER would show every improvement as a loss, and no other test would
    # see it.
    page = (Path(__file__).parent.parent / "docs/metrics.md").read_text()
    documented = dict(re.findall(r"^- \*\*`(\w+)`\*\*(.{0,24})", page, flags=re.MULTILINE))
    for name in RATES.keys() & documented.keys():
        says_lower = "lower is better" in documented[name]
        assert says_lower == (name in LOWER_IS_BETTER), (
            f"{name}: docs/metrics.md and LOWER_IS_BETTER disagree"
        )
