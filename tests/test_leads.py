"""Leads by source, means over sources with their intervals, verdicts: no source may hide in a mean."""

import numpy as np
import pytest

from evaluation.columns import TERMINAL_COLUMNS
from evaluation.leads import is_above, lead_rows, lead_table, leads_by_part, n_above
from evaluation.macro import intervals_over_sources
from evaluation.results import score_all, score_rows
from evaluation.slices import SOURCE_DELTAS, slices
from evaluation.tables import interval_table, results_text
from reporting import tables
from tests.canned import canned_rows, gold_rows
from utils.completions import render_completion
from utils.intervals import draw_counts, group_index, paired_deltas, with_intervals
from utils.text import REFUSAL

N_ROWS = 40


def rows_of(source: str, n: int, sample: dict) -> list[dict]:
    return [{**sample, "id": f"{source}:{i}", "source": source, "group": f"{source} {i}"} for i in range(n)]


@pytest.fixture
def two_sources(sample):
    """40 samples each of popqa and nq_open, all answerable, each a group of its own."""
    return rows_of("popqa", N_ROWS, sample) + rows_of("nq_open", N_ROWS, sample)


def answers(samples: list[dict], model: str, right_in: str) -> list[dict]:
    """Rows of a model that is right in one source, and wrong in all others."""
    rows = []
    for sample in samples:
        answer = sample["answer"] if sample["source"] == right_in else "Paris"
        completion = render_completion(answer, sample["support_sets"][0], 0.9)
        rows.append({"id": sample["id"], "model": model, "completion": completion})
    return rows


@pytest.fixture
def results(two_sources):
    """The SFT model is right in popqa alone, its base in nq_open alone: tied over all, and nowhere else."""
    rows = answers(two_sources, "sft", "popqa") + answers(two_sources, "base", "nq_open")
    return score_all(rows, two_sources, 0)[0]


def test_a_lead_in_one_source_shows_although_the_mean_is_tied(results):
    assert results["deltas_to"]["base"]["net_score"] == 0.0
    by_source = results["deltas_by_source"]
    assert (
        by_source["popqa"]["base"]["net_score"] == 2.0 and by_source["nq_open"]["base"]["net_score"] == -2.0
    )
    assert by_source["popqa"]["base"]["ci95"]["net_score"] == [2.0, 2.0]
    # Less hallucination is better.
    assert by_source["popqa"]["base"]["hallucination_rate"] == 1.0
    assert n_above(leads_by_part(results), "base") == 1


def test_the_lead_in_a_source_is_the_paired_difference_on_its_samples(two_sources):
    rows = canned_rows(two_sources, "sft", 0.3, 1) + canned_rows(two_sources, "base", 0.6, 2)
    found = score_all(rows, two_sources, 7)[0]["deltas_by_source"]["nq_open"]["base"]
    own = two_sources[N_ROWS:]
    terms = [score_rows([row for row in rows if row["model"] == name], own)[0] for name in ("sft", "base")]
    expected = paired_deltas(*terms, [sample["group"] for sample in own], 7)
    for key in SOURCE_DELTAS:
        assert found[key] == expected[key] and found["ci95"][key] == expected["ci95"][key]


def test_a_source_with_few_groups_has_a_difference_and_no_interval(sample):
    samples = rows_of("popqa", 19, sample) + rows_of("nq_open", N_ROWS, sample)
    rows = answers(samples, "sft", "popqa") + answers(samples, "base", "nq_open")
    results, _ = score_all(rows, samples, 0)
    few = results["deltas_by_source"]["popqa"]["base"]
    assert few["net_score"] == 2.0 and few["ci95"]["net_score"] is None and not is_above(few)
    # A mean over sources would be as uncertain as the small one is.
    assert results["sft"]["macro"]["net_score"] == 0.0
    assert set(results["sft"]["macro"]["ci95"].values()) == {None}


def test_terminal_and_page_show_every_lead_by_source(results):
    header, rows = lead_rows(results)
    assert header == ["above 0 in", "all", "nq_open", "popqa"]
    assert rows == [
        (
            "base",
            [
                ("1 of 3", ""),
                ("+0.000", "[-0.450, +0.450]"),
                ("-2.000", "[-2.000, -2.000]"),
                ("+2.000", "[+2.000, +2.000]"),
            ],
        )
    ]
    text = results_text(results)
    assert lead_table(results) in text and "+2.000 [+2.000, +2.000]" in text
    assert max(map(len, text.splitlines())) <= TERMINAL_COLUMNS
    assert tables.leads(results)["rows"] == [("base", False, rows[0][1])]


def test_results_of_earlier_versions_and_of_one_source_have_no_such_table(results, sample):
    older = {key: value for key, value in results.items() if key != "deltas_by_source"}
    for name in ("sft", "base"):
        older[name] = {**older[name], "macro": {"net_score": 0.0}}
    assert lead_table(older) == "" and tables.leads(older) is None
    assert "lead over" not in results_text(older)
    one = rows_of("popqa", N_ROWS, sample)
    of_one, _ = score_all(gold_rows(one) + gold_rows(one, "base"), one, 0)
    assert lead_table(of_one) == "" and "mean of sources" not in interval_table(of_one, "sft")


def test_the_interval_of_a_mean_over_sources_equals_a_plain_loop_over_the_same_draws(two_sources):
    # Two samples of different sources share a group, which is drawn whole.
    samples = [{**sample, "group": f"g{i % 60}"} for i, sample in enumerate(two_sources)]
    terms, _ = score_rows(canned_rows(samples, "sft", 0.4, 3), samples)
    found = intervals_over_sources(terms, samples, 5)

    index, n_groups = group_index([sample["group"] for sample in samples])
    means = []
    for counts in draw_counts(n_groups, 5):
        rates = []
        for source in ("popqa", "nq_open"):
            weights = [counts[g] * (s["source"] == source) for g, s in zip(index, samples)]
            rates.append(np.average([term["net_score"] for term in terms], weights=weights))
        means.append(np.mean(rates))
    assert found["net_score"] == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=1e-6)
    # No source has unanswerable samples.
    assert found["refusal_f1"] is None


def test_the_mean_over_one_source_has_the_interval_of_the_source(sample):
    samples = rows_of("popqa", N_ROWS, sample)
    terms, _ = score_rows(canned_rows(samples, "sft", 0.4, 3), samples)
    micro = with_intervals(terms, [s["group"] for s in samples], 5)["ci95"]
    assert intervals_over_sources(terms, samples, 5)["net_score"] == pytest.approx(micro["net_score"])


def test_slices_by_source_and_right_verdict(sample, unanswerable):
    def claim(i, source, answer):
        return {**sample, "id": f"{source}:{i}", "source": source, "answer": answer}

    rows = [
        claim(0, "fever", "supported"),
        claim(1, "fever", "refuted"),
        claim(2, "hotpotqa", "no"),
        claim(3, "fever", "refuted"),
        sample,
        unanswerable,
    ]
    expected = {"fever refuted": [1, 3], "fever supported": [0], "hotpotqa refuted": [2]}
    assert slices(rows)["verdict"] == expected and REFUSAL not in str(slices(rows)["verdict"])
    # A test set without verdicts has no such slice.
    assert "verdict" not in slices([sample, unanswerable])
