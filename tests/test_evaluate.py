import json

import pytest

import evaluate_sft_fast_robust as evaluation
from utils.baselines import best_span, lexical
from utils.completions import gold_completion, render_completion
from utils.errors import DataError
from utils.jsonl import read_json, write_jsonl
from utils.text import REFUSAL


@pytest.fixture
def home(data_home, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "data").symlink_to(data_home / "data")
    return tmp_path


def gold_rows(samples, model="sft"):
    return [{"id": s["id"], "model": model, "completion": gold_completion(s, list(range(len(s["evidence_chunks"]))))} for s in samples]


@pytest.fixture
def test_samples(data_home):
    from utils.schema import read_samples

    return read_samples(data_home / "data/processed/test.jsonl")


def test_gold_completions_score_one_and_nonsense_minus_one(home, test_samples):
    rows = gold_rows(test_samples) + [{"id": s["id"], "model": "base", "completion": "The answer is 42."} for s in test_samples]
    write_jsonl(home / "p.jsonl", rows)
    evaluation.main(["--predictions", "p.jsonl", "--test-data", "data/processed/test.jsonl", "--output", "out.json"])
    results = read_json(home / "out.json")
    sft, base = results["sft"], results["base"]
    for name in ("em", "f1", "citation_correctness", "citation_f1", "refusal_f1", "joint_f1", "net_score", "trust_score", "schema_valid_rate"):
        assert sft[name] == pytest.approx(1.0), name
    assert sft["hallucination_rate"] == 0.0 and sft["strict"]["em"] == 1.0
    assert base["unparsable_rate"] == 1.0 and base["net_score"] == -1.0 and base["hallucination_rate"] == 0.0
    # A model that answers nothing parsable hallucinates nothing: the delta is negative, and answered_rate tells why.
    assert results["deltas"]["em"] == pytest.approx(1.0) and base["answered_rate"] == 0.0
    assert set(results["baselines"]) == {"always_refuse", "cite_first_chunk", "lexical"}
    assert results["baselines"]["always_refuse"]["under_refusal_rate"] == 0.0
    assert set(results["by_source"]) == {s["source"] for s in test_samples}
    assert results["by_source"]["fever"]["sft"]["em"] == 1.0
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_the_notebooks_delta_keys_are_there(home, test_samples):
    write_jsonl(home / "p.jsonl", gold_rows(test_samples) + gold_rows(test_samples, "base"))
    evaluation.main(["--predictions", "p.jsonl", "--test-data", "data/processed/test.jsonl", "--output", "out.json"])
    deltas = read_json(home / "out.json")["deltas"]
    assert {"em", "f1", "hallucination_rate", "citation_correctness"} <= deltas.keys() and deltas["em"] == 0.0


def test_a_confidence_threshold_turns_answers_into_refusals(home, test_samples):
    write_jsonl(home / "p.jsonl", gold_rows(test_samples))
    evaluation.main(["--predictions", "p.jsonl", "--test-data", "data/processed/test.jsonl", "--output", "out.json", "--confidence-threshold", "1.01"])
    assert read_json(home / "out.json")["sft"]["refusal_rate"] == 1.0


def test_predictions_must_cover_every_sample_once(home, test_samples):
    write_jsonl(home / "p.jsonl", gold_rows(test_samples)[1:])
    with pytest.raises(DataError, match="sft lacks 1 of"):
        evaluation.main(["--predictions", "p.jsonl", "--test-data", "data/processed/test.jsonl"])
    write_jsonl(home / "p.jsonl", gold_rows(test_samples) + gold_rows(test_samples)[:1])
    with pytest.raises(DataError, match="a second prediction"):
        evaluation.main(["--predictions", "p.jsonl", "--test-data", "data/processed/test.jsonl"])


def test_shown_numbers_are_mapped_back_to_chunk_ids(sample):
    # Chunks 2 and 3 were shown as 0 and 1: citing 0 means chunk 2, citing 2 means nothing.
    rows = [{"id": sample["id"], "model": "sft", "completion": render_completion("Warsaw", [0], 0.9), "shown": [2, 3]}]
    terms, parsed = evaluation.score_rows(rows, [sample], None)
    assert parsed[0].citations == [2] and terms[0]["citation_correctness"] == 1.0
    rows[0]["completion"] = render_completion("Warsaw", [2], 0.9)
    terms, parsed = evaluation.score_rows(rows, [sample], None)
    assert parsed[0].citations == [-1] and terms[0]["citation_correctness"] == 0.0 and terms[0]["valid"] == 0.0


def test_the_lexical_baseline_answers_from_the_best_chunk_and_can_refuse(sample):
    text, citations, _ = lexical(sample, 0.0)
    assert citations in ([0], [2]) and text
    assert lexical(sample, 1e9) == (REFUSAL, [], 0.0)
    assert best_span("Marie Curie was born in Warsaw in 1867.", "Where was Marie Curie born?") != "Marie Curie"
