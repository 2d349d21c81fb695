"""Evaluation from predictions to what people read: scoring, baselines, slices, thresholds, page, compare."""

import argparse
import json
from pathlib import Path

import pytest

import evaluate_sft_fast_robust as evaluation
from evaluation.baselines import EVIDENCE_VIEWS, build_prompts, lexical, tune_lexical
from evaluation.differing import differing_settings
from evaluation.macro import mean_over_sources
from evaluation.plan import prefs_command
from evaluation.predictions import describe_rows
from evaluation.results import RESULT_KEYS, WITHOUT_MODEL, score_rows
from evaluation.selective import threshold_for_precision
from evaluation.slices import SLICE_METRICS, slices
from evaluation.spans import best_span
from evaluation.tables import delta_rows
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from tests.canned import canned_rows, gold_rows
from utils.calibration import fit_isotonic
from utils.completions import render_completion
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, read_jsonl, write_json, write_jsonl
from utils.metrics import DELTA_METRICS
from utils.schema import read_samples
from utils.scoring import is_right_answer
from utils.text import REFUSAL

TEST_DATA = "--test-data data/processed/test.jsonl"


def evaluate(flags: str) -> None:
    """Run the script with flags as one would type them."""
    evaluation.main(flags.split())


@pytest.fixture
def test_samples(data_home):
    return read_samples(data_home / "data/processed/test.jsonl")


def test_gold_completions_score_one_and_nonsense_minus_one(home, test_samples):
    prose = [{"id": s["id"], "model": "base", "completion": "The answer is 42."} for s in test_samples]
    write_jsonl(home / "p.jsonl", gold_rows(test_samples) + prose)
    evaluate(f"--predictions p.jsonl {TEST_DATA} --output out.json")
    results = read_json(home / "out.json")
    sft = results["sft"]
    base = results["base"]
    names = (
        "em f1 citation_correctness citation_f1 refusal_f1 joint_f1 net_score trust_score schema_valid_rate"
    )
    for name in names.split():
        assert sft[name] == pytest.approx(1.0), name
    assert sft["hallucination_rate"] == 0.0 and sft["strict"]["em"] == 1.0
    assert base["unparsable_rate"] == 1.0 and base["net_score"] == -1.0 and base["hallucination_rate"] == 0.0
    # A model without a parsable answer hallucinates nothing: answered_rate tells why.
    assert results["deltas"]["em"] == pytest.approx(1.0) and base["answered_rate"] == 0.0
    assert set(results["baselines"]) == set(WITHOUT_MODEL)
    assert results["baselines"]["always_refuse"]["under_refusal_rate"] == 0.0
    assert set(results["by_source"]) == {s["source"] for s in test_samples}
    assert results["by_source"]["fever"]["sft"]["em"] == 1.0
    assert sft["macro"]["em"] == pytest.approx(1.0) and base["macro"]["net_score"] == -1.0
    # NaN is not JSON: an empty denominator must be null.
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_the_notebooks_delta_keys_are_there(home, test_samples):
    write_jsonl(home / "p.jsonl", gold_rows(test_samples) + gold_rows(test_samples, "base"))
    evaluate(f"--predictions p.jsonl {TEST_DATA} --output out.json")
    deltas = read_json(home / "out.json")["deltas"]
    # The notebook reads these by name.
    assert {"em", "f1", "hallucination_rate", "citation_correctness"} <= deltas.keys() and deltas["em"] == 0.0


def test_a_confidence_threshold_turns_answers_into_refusals(home, test_samples):
    rows = gold_rows(test_samples)
    rows = [{**row, "completion": row["completion"].replace(": 1.0}", ": 0.9}")} for row in rows]
    write_jsonl(home / "p.jsonl", rows)
    # No stated confidence reaches 1, so everything counts as refused.
    evaluate(f"--predictions p.jsonl {TEST_DATA} --output out.json --confidence-threshold 1")
    assert read_json(home / "out.json")["sft"]["refusal_rate"] == 1.0


def test_predictions_must_cover_every_sample_once(home, test_samples):
    write_jsonl(home / "p.jsonl", gold_rows(test_samples)[1:])
    with pytest.raises(DataError, match="sft lacks 1 of"):
        evaluate(f"--predictions p.jsonl {TEST_DATA}")
    write_jsonl(home / "p.jsonl", gold_rows(test_samples) + gold_rows(test_samples)[:1])
    with pytest.raises(DataError, match="a second prediction"):
        evaluate(f"--predictions p.jsonl {TEST_DATA}")


@pytest.mark.parametrize("name", [*WITHOUT_MODEL, *RESULT_KEYS, "", " ", " sft", "s\nft"])
def test_a_reserved_model_name_is_refused_with_its_line(home, test_samples, name):
    # Two models of one name: the rule's rows used to replace the user's without a word.
    write_jsonl(home / "p.jsonl", gold_rows(test_samples) + gold_rows(test_samples, name))
    where = rf"p.jsonl:{len(test_samples) + 1}: the model"
    with pytest.raises(DataError, match=rf"{where}.*(reserved|empty|one line).*; .*name"):
        evaluate(f"--predictions p.jsonl {TEST_DATA} --output out.json")
    assert not (home / "out.json").exists()


@pytest.mark.parametrize("shown", [None, "0", [None], 3])
def test_shown_chunks_that_are_no_ids_are_refused_with_their_line(shown, home, test_samples):
    rows = gold_rows(test_samples)
    rows[1]["shown"] = shown
    write_jsonl(home / "p.jsonl", rows)
    with pytest.raises(DataError, match=r"p.jsonl:2: shown must be a list of chunk ids"):
        evaluate(f"--predictions p.jsonl {TEST_DATA} --output out.json")


@pytest.mark.parametrize("shown", [[99], [0, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]])
def test_chunks_that_a_sample_lacks_are_refused_before_anything_is_written(shown, home, test_samples):
    rows = gold_rows(test_samples)
    rows[1]["shown"] = shown
    write_jsonl(home / "p.jsonl", rows)
    with pytest.raises(DataError, match=r"p.jsonl:2: shown is .*use the --test-data that"):
        evaluate(f"--predictions p.jsonl {TEST_DATA} --output out.json")
    assert not (home / "out.json").exists()


def test_shown_numbers_are_mapped_back_to_chunk_ids(sample):
    # Chunks 2 and 3 were shown as 0 and 1: citing 0 means chunk 2, citing 2 means nothing.
    completion = render_completion("Warsaw", [0], 0.9)
    rows = [{"id": sample["id"], "model": "sft", "completion": completion, "shown": [2, 3]}]
    terms, parsed = score_rows(rows, [sample])
    assert parsed[0].citations == [2] and terms[0]["citation_correctness"] == 1.0
    rows[0]["completion"] = render_completion("Warsaw", [2], 0.9)
    terms, parsed = score_rows(rows, [sample])
    assert parsed[0].citations == [-1]
    assert terms[0]["citation_correctness"] == 0.0 and terms[0]["valid"] == 0.0


def test_the_lexical_baseline_answers_from_the_best_chunk_and_can_refuse(sample):
    text, citations, _ = lexical(sample, 0.0)
    assert citations in ([0], [2]) and text
    assert lexical(sample, 1e9) == (REFUSAL, [], 0.0)
    # Words of the question are no answer to it.
    assert (
        best_span("Marie Curie was born in Warsaw in 1867.", "Where was Marie Curie born?") != "Marie Curie"
    )


# --- slices


def test_slices_by_hops_chunks_and_popularity(sample, unanswerable):
    def row(i, popularity, **fields):
        return {**sample, "id": f"popqa:{i}", "metadata": {"popularity": popularity}, **fields}

    rows = [
        row(0, 5),
        row(1, 10, support_sets=[[0, 2]]),
        row(2, 1500, support_sets=[[0, 1, 2], [0, 1, 2, 3]]),
        {**unanswerable, "metadata": {}},
    ]
    found = slices(rows)
    assert found["hops"] == {"1": [0], "2": [1], "3 or more": [2]}
    assert found["chunks"] == {"2": [3], "4": [0, 1, 2]}
    assert found["answerability"] == {"answerable": [0, 1, 2], "unanswerable": [3]}
    assert found["popularity"] == {"5": [0], "10": [1], "1,500": [2]}
    assert "popularity" not in slices([unanswerable | {"metadata": {}}])
    levels = [{**sample, "metadata": {"difficulty": level}} for level in ("easy", "hard", "easy")]
    assert slices(levels)["difficulty"] == {"easy": [0, 2], "hard": [1]}


def test_equal_popularity_stays_in_one_part(sample):
    rows = [{**sample, "metadata": {"popularity": value}} for value in [1, 1, 1, 1, 2, 9]]
    assert slices(rows)["popularity"] == {"1": [0, 1, 2, 3], "2 to 9": [4, 5]}


# --- fair comparisons


def test_closed_book_and_gold_only_show_what_they_say(tokenizer, sample, unanswerable):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    row = {**sample, "support_sets": [[2]], "support_spans": [2], "hard_negatives": [0, 1, 3]}
    gold = build_prompts(builder, [row, unanswerable], EVIDENCE_VIEWS["gold_only"])
    closed = build_prompts(builder, [row, unanswerable], EVIDENCE_VIEWS["closed_book"])
    assert gold[0].shown == [2] and [c["title"] for c in gold[0].chunks] == ["Warsaw"]
    # An unanswerable sample has no support to show.
    assert gold[1].shown == []
    assert closed[0].shown == closed[1].shown == [] and "museum" not in tokenizer.decode(closed[0].ids)
    # Number 0 of a gold-only prompt is chunk 2 of the sample; nothing can be cited from a closed book.
    completion = render_completion("Warsaw", [0], 0.9)
    for prompt, correct in ((gold[0], 1.0), (closed[0], 0.0)):
        terms, _ = score_rows([{"id": row["id"], "completion": completion, "shown": prompt.shown}], [row])
        assert terms[0]["citation_correctness"] == correct and terms[0]["em"] == 1.0


def test_every_opponent_is_also_held_to_the_schema():
    flags = "--model-path m --base-model b --test-data t --compare-baseline --baseline-fewshot --constrained"
    plan = evaluation.plan_models(evaluation.build_parser().parse_args(flags.split()), "default")
    # The checkpoint's runs come first: each model is loaded once.
    assert list(plan)[:2] == ["sft", "sft_constrained"]
    assert list(plan)[2:] == ["base", "base_fewshot", "base_constrained", "base_fewshot_constrained"]
    assert plan["base_fewshot_constrained"] == ("fewshot", None)


def test_every_baseline_on_request_is_a_model_of_the_results(home, tiny_gemma_dir):
    models = f"--model-path {tiny_gemma_dir} --base-model {tiny_gemma_dir} --max-new-tokens 2"
    baselines = "--compare-baseline --baseline-fewshot --baseline-closed-book --baseline-gold-only"
    evaluate(f"{models} {baselines} {TEST_DATA} --limit 4 --output out.json")
    results = read_json(home / "out.json")
    names = {"base_fewshot", "closed_book", "gold_only"}
    assert names < results["baselines"].keys()
    assert set(results["deltas_to"]) == {"base", *results["baselines"]}

    # Four samples for each of five models.
    rows = [row for _, row in read_jsonl(home / "out_predictions.jsonl")]
    assert len(rows) == 20 and all({"outcome", "em", "f1", "citation_f1"} <= row.keys() for row in rows)
    assert all(row["shown"] == [] for row in rows if row["model"] == "closed_book")
    assert (home / "out_calibration.png").is_file()

    # The file that a run writes is one that --predictions reads, with the same numbers.
    evaluate(f"--predictions out_predictions.jsonl {TEST_DATA} --limit 4 --output again.json")
    again = read_json(home / "again.json")
    assert again["baselines"] == results["baselines"] and again["deltas"] == results["deltas"]


def test_the_lexical_threshold_is_the_best_on_val(test_samples):
    threshold = tune_lexical(test_samples)

    def net(at):
        rows = [{"id": s["id"], "completion": render_completion(*lexical(s, at))} for s in test_samples]
        terms, _ = score_rows(rows, test_samples)
        return sum(term["net_score"] for term in terms)

    assert all(net(threshold) >= net(at) for at in (0.0, 1.0, 2.0, 4.0, 8.0)) and tune_lexical([]) == 0.0


# --- selective answering


def test_the_threshold_for_a_precision_by_hand():
    confidences = [0.9, 0.9, 0.8, 0.7, 0.6]
    right = [True, True, False, True, False]
    # At 0.6: 3 of 5; at 0.7: 3 of 4; at 0.8: 2 of 3; at 0.9: 2 of 2.
    expected = {"threshold": 0.7, "precision": 0.75, "coverage": 0.8, "n_kept": 4}
    assert threshold_for_precision(confidences, right, 0.75) == expected
    assert threshold_for_precision(confidences, right, 0.8)["threshold"] == 0.9
    assert threshold_for_precision([0.5], [False], 0.1) is None


def calibration_of(samples, rows):
    """The content of calibration.json, as training fits it on its answers."""
    _, parsed = score_rows(rows, samples)
    answers = []
    for s, r, p in zip(samples, rows, parsed):
        if p.is_answer:
            right = is_right_answer(p, s)
            answers.append(
                {"id": s["id"], "probability": r["probability"], "stated": p.confidence, "right": right}
            )
    isotonic = fit_isotonic([a["probability"] for a in answers], [a["right"] for a in answers])
    return {"isotonic": isotonic, "answers": answers}


@pytest.mark.parametrize("kind", ["stated", "calibrated"])
def test_wanted_precision_takes_its_threshold_from_val_and_reports_test(kind, home, data_home, test_samples):
    val = read_samples(data_home / "data/processed/val.jsonl")
    (home / "sft/checkpoint-best").mkdir(parents=True)
    rows_of_val = canned_rows(val, "sft", 0.4, 3)
    write_json(home / "sft/calibration.json", calibration_of(val, rows_of_val))
    rows = canned_rows(test_samples, "sft", 0.4, 4) + canned_rows(test_samples, "base", 0.4, 5)
    write_jsonl(home / "p.jsonl", rows)
    flags = f"--predictions p.jsonl {TEST_DATA} --model-path sft/checkpoint-best --output out.json"

    evaluate(f"{flags} --wanted-precision 0.8 --confidence-kind {kind}")
    selective = read_json(home / "out.json")["selective"]
    assert selective["val"]["precision"] >= 0.8 and selective["threshold"] == selective["val"]["threshold"]
    # A calibrated threshold belongs to the checkpoint, a stated one to every model.
    assert set(selective["test"]) == ({"sft", "base"} if kind == "stated" else {"sft"})

    # Without a threshold the same file has every answer in it.
    evaluate(f"{flags} --overwrite")
    before = read_json(home / "out.json")["sft"]
    assert selective["test"]["sft"]["n_answers"] == round(before["answered_rate"] * before["n"])
    assert before["ece_calibrated"] is not None
    # Impossible where val has no right answer at all.
    answers = [{**answer, "right": False} for answer in calibration_of(val, rows_of_val)["answers"]]
    write_json(home / "sft/calibration.json", {"isotonic": None, "answers": answers})
    with pytest.raises(UsageError, match="no stated confidence reaches it"):
        evaluate(f"{flags} --wanted-precision 0.9")


def test_thresholds_without_a_checkpoint_say_what_is_missing(home, test_samples):
    write_jsonl(home / "p.jsonl", gold_rows(test_samples))
    flags = f"--predictions p.jsonl {TEST_DATA}"
    with pytest.raises(DataError, match="val answers"):
        evaluate(f"{flags} --wanted-precision 0.9")
    with pytest.raises(DataError, match="isotonic"):
        evaluate(f"{flags} --confidence-threshold 0.9 --confidence-kind calibrated")
    with pytest.raises(UsageError, match="give one"):
        evaluate(f"{flags} --confidence-threshold 0.9 --wanted-precision 0.9")
    with pytest.raises(UsageError, match="--test-data"):
        evaluate("--predictions p.jsonl")


# --- what people read


@pytest.fixture
def canned(home, test_samples):
    """A rescored run with two models."""
    rows = canned_rows(test_samples, "sft", 0.3, 1) + canned_rows(test_samples, "base", 0.8, 2)
    write_jsonl(home / "p.jsonl", rows)
    evaluate(f"--predictions p.jsonl {TEST_DATA} --output a.json")
    return home


def test_the_terminal_shows_every_model_and_says_which_differences_are_none(canned, capsys, test_samples):
    write_jsonl(canned / "q.jsonl", gold_rows(test_samples) + gold_rows(test_samples, "base"))
    evaluate(f"--predictions q.jsonl {TEST_DATA} --output b.json")
    text = capsys.readouterr().out
    models = ("sft", "base", "always_refuse", "cite_first_chunk", "lexical")
    assert all(name in text for name in (*models, "sft by source", "sft by hops"))

    deltas = {"em": 0.1, **dict.fromkeys(DELTA_METRICS[1:], 0.2)}
    intervals = {"em": [-0.1, 0.3], **dict.fromkeys(DELTA_METRICS[1:], [0.1, 0.3])}
    smallest = {"em": 0.28, **dict.fromkeys(DELTA_METRICS[1:])}
    rows = delta_rows({**deltas, "ci95": intervals, "smallest_detectable": smallest})
    assert rows[0] == ["em", "+0.100", "[-0.100, +0.300]", "0.280", "tied"]
    assert rows[1] == ["f1", "+0.200", "[+0.100, +0.300]", "-", "better"]


def test_means_over_sources_count_each_source_once():
    of_sources = {
        "large": {"sft": {**dict.fromkeys(SLICE_METRICS, 0.9), "refusal_f1": 0.4, "em": None}},
        "small": {"sft": {**dict.fromkeys(SLICE_METRICS, 0.1), "refusal_f1": None, "em": None}},
    }
    means = mean_over_sources(of_sources, "sft")
    assert means["net_score"] == pytest.approx(0.5)
    # A source without unanswerable samples has no refusal figure, and counts in no mean of one.
    assert means["refusal_f1"] == 0.4 and means["em"] is None


def test_compare_prints_what_differs_and_paired_differences(canned, capsys, test_samples):
    write_jsonl(canned / "q.jsonl", gold_rows(test_samples))
    evaluate(f"--predictions q.jsonl {TEST_DATA} --output b.json")
    capsys.readouterr()
    evaluate("--compare a.json b.json")
    text = capsys.readouterr().out
    assert "predictions" in text and "p.jsonl" in text and "q.jsonl" in text
    # The paired differences come first, the settings last.
    n = len(test_samples)
    order = [f"sft, B against A, {n} shared samples", f"A (n={n})", "differs: predictions"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "different samples" not in text
    # B is gold, which has a net score of 1.
    paired = text[text.index("sft, B against A") :]
    line = next(line for line in paired.splitlines() if line.startswith("net_score"))
    before = read_json(canned / "a.json")["sft"]["net_score"]
    assert float(line.split()[1]) == pytest.approx(1.0 - before, abs=0.001)

    evaluate("--compare a.json a.json")
    text = capsys.readouterr().out
    assert "settings, inputs and versions are the same" in text and "+0.000" in text


def test_flags_that_would_change_nothing_are_refused(canned):
    asking = (
        "--constrained",
        "--compare-baseline",
        "--baseline-closed-book",
        "--template x",
        "--temperature 0.7",
    )
    loading = ("--max-new-tokens 5", "--attn-impl eager", "--use-8bit", "--engine vllm")
    for flag in (*asking, *loading):
        with pytest.raises(UsageError, match=f"{flag.split()[0]} asks a model"):
            evaluate(f"--predictions a.jsonl {TEST_DATA} --output b.json {flag}")
    with pytest.raises(UsageError, match="--confidence-kind says what a threshold applies to"):
        evaluate(f"--predictions a.jsonl {TEST_DATA} --output b.json --confidence-kind calibrated")


def test_other_samples_beside_the_test_file_are_another_run(canned, capsys):
    evaluate(f"--predictions p.jsonl {TEST_DATA} --output b.json")
    evaluate(f"--predictions p.jsonl {TEST_DATA} --output b.json")
    assert "nothing to do" in capsys.readouterr().out
    results = read_json(canned / "b.json")
    train = Path(results["run"]["settings"]["test_data"]).with_name("train.jsonl")
    hashes = results["run"]["settings"]["fitted_on"]
    assert (canned / train).is_file() == ("train" in hashes)
    results["run"]["settings"]["fitted_on"] = {**hashes, "train": "other"}
    write_json(canned / "b.json", results)
    with pytest.raises(UsageError, match="fitted_on.train"):
        evaluate(f"--predictions p.jsonl {TEST_DATA} --output b.json")
    # Results of earlier versions do not say it.
    del results["run"]["settings"]["fitted_on"]
    write_json(canned / "b.json", results)
    evaluate(f"--predictions p.jsonl {TEST_DATA} --output b.json")


def test_compare_says_that_its_tables_are_of_different_samples(canned, capsys, test_samples):
    write_jsonl(canned / "q.jsonl", gold_rows(test_samples))
    evaluate(f"--predictions q.jsonl {TEST_DATA} --limit 12 --output b.json")
    capsys.readouterr()
    evaluate("--compare a.json b.json")
    text = capsys.readouterr().out
    n_shared = read_json(canned / "b.json")["sft"]["n"]
    assert f"{n_shared} shared samples" in text and f"B (n={n_shared})" in text
    assert text.index("do not compare A with B") < text.index("A (n=")


def test_settings_written_differently_do_not_differ():
    inputs = {"data/test.jsonl": "aa", "calibration.json": "cc"}
    flags = {"test_data": "data/test.jsonl", "template": None, "limit": None, "buckets": "512,1024"}
    first = {"settings": flags, "inputs": inputs, "packages": {}, "git_commit": "x"}
    first["settings"] |= {"model_path": "m", "model_key": "kk", "overwrite": False}
    moved = {"test_data": "/home/data/test.jsonl", "template": "default", "limit": 0, "buckets": [512, 1024]}
    second = {**first, "settings": moved | {"model_path": "n", "model_key": "kk", "overwrite": True}}
    second["inputs"] = {"home/data/test.jsonl": "aa", "calibration.json": "dd"}
    assert differing_settings(first, second) == []
    # Another model under the same name is told by its contents.
    changed = {**first, "settings": flags | {"model_key": "ll"}}
    assert differing_settings(first, changed) == [["model_path (contents)", "kk", "ll"]]
    gates = {"refuted": {"weights": [1.0, 2.0], "intercept": 0.5, "factor": 2.0}}
    changed = {**first, "settings": flags | {"biases": {"gates": gates}}}
    assert differing_settings(first, changed) == [["biases.gates.refuted.factor", "(not given)", "2.0"]]
    changed = {**first, "settings": flags | {"limit": 5}}
    assert differing_settings(first, changed) == [["limit", "(not given)", "5"]]


@pytest.mark.parametrize("name", ["b.json", "b_predictions.jsonl", "b_calibration.png", "p.jsonl"])
def test_a_page_replaces_neither_inputs_nor_results(canned, name):
    kept = (canned / "p.jsonl").read_bytes()
    with pytest.raises(UsageError, match="--report .* choose another name"):
        evaluate(f"--predictions p.jsonl {TEST_DATA} --output b.json --report {name}")
    assert not (canned / "b.json").exists() and (canned / "p.jsonl").read_bytes() == kept


def test_a_page_replaces_a_page_alone(canned):
    (canned / "notes.txt").write_text("mine")
    flags = f"--predictions p.jsonl {TEST_DATA} --output b.json"
    with pytest.raises(UsageError, match="exists and is no HTML page"):
        evaluate(f"{flags} --report notes.txt")
    for _ in range(2):
        evaluate(f"{flags} --report page.html --overwrite")
    assert (canned / "page.html").read_text().startswith("<!doctype html>")


def test_completions_that_no_run_wrote_are_not_replaced(canned):
    write_jsonl(canned / "mine_predictions.jsonl", [{"id": "x"}])
    flags = ["--model-path", "x", *TEST_DATA.split(), "--output", "mine.json"]
    with pytest.raises(UsageError, match="mine_predictions.jsonl: would be replaced"):
        evaluation.read_arguments(flags)
    # The log of a run that was stopped, which goes on.
    (canned / ".mine_predictions.partial-0.jsonl").touch()
    with pytest.raises(DataError, match="no such checkpoint"):
        evaluation.read_arguments(flags)


def test_a_calibrated_threshold_needs_probabilities(home, data_home, test_samples):
    rows = gold_rows(test_samples)
    write_jsonl(home / "p.jsonl", rows)
    fit = {"isotonic": {"x": [0.0, 1.0], "y": [0.0, 1.0]}, "n": 9}
    (home / "sft/checkpoint-best").mkdir(parents=True)
    write_json(home / "sft/calibration.json", fit)
    flags = f"--predictions p.jsonl {TEST_DATA} --output out.json --model-path sft/checkpoint-best"
    with pytest.raises(DataError, match="p.jsonl: sft, .*: has no probability"):
        evaluate(f"{flags} --confidence-kind calibrated --confidence-threshold 0.5")
    assert not (home / "out.json").exists()


def test_a_checkpoint_that_is_not_there_is_named_also_for_a_rescoring(canned):
    with pytest.raises(DataError, match="no such checkpoint"):
        evaluate(f"--predictions p.jsonl {TEST_DATA} --output b.json --model-path checkpoints/nothing")


def test_preferences_after_an_evaluation_name_the_base_of_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    write_json(tmp_path / "sft/best/adapter_config.json", {"base_model_name_or_path": "embedded"})
    args = argparse.Namespace(model_path="sft/best", base_model=None, test_data="own/test.jsonl")
    assert prefs_command(args).endswith("--sft-model sft/best --base-model embedded")


def test_preferences_after_an_evaluation_take_unseen_samples(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    write_jsonl(tmp_path / "own/train.jsonl", [{"id": str(i)} for i in range(6)])
    write_jsonl(tmp_path / "own/val.jsonl", [{"id": "v"}, {"id": "w"}])
    args = argparse.Namespace(model_path="sft/best", base_model="embedded", test_data="own/test.jsonl")
    (tmp_path / "sft/best").mkdir(parents=True)
    for seen, data in (("0\n1", "--data-path own/train.jsonl --unseen-only"), ("0\n1\n2\n3\n4", "val.jsonl")):
        (tmp_path / "sft/train_ids.txt").write_text(seen)
        assert prefs_command(args).endswith(data)
    args.test_data = "elsewhere/test.jsonl"
    assert prefs_command(args).endswith("--base-model embedded")


def test_compare_says_why_there_are_no_paired_differences(canned, capsys):
    (canned / "p.jsonl").unlink()
    evaluate("--compare a.json a.json")
    assert "no paired differences" in capsys.readouterr().out
    write_json(canned / "other.json", {"x": 1})
    with pytest.raises(
        DataError,
        match="other.json: field 'baselines' is missing; not what evaluate_sft_fast_robust.py writes",
    ):
        evaluate("--compare a.json other.json")


def test_prediction_rows_say_what_became_of_them(sample, unanswerable):
    samples = [sample, unanswerable]
    completion = render_completion("Warsaw", [0], 0.9)
    rows = [{"id": s["id"], "model": "sft", "completion": completion} for s in samples]
    _, parsed = score_rows(rows, samples)
    described = describe_rows(rows, {"sft": parsed}, samples)
    assert [row["outcome"] for row in described] == ["right answer", "answered the unanswerable"]
    assert described[0]["em"] == described[0]["citation_f1"] == 1.0 and described[0]["citations"] == [0]
    assert described[1]["f1"] == 0.0


def test_docs_explain_every_figure_of_a_results_file(canned):
    text = (Path(evaluation.__file__).parent / "docs/metrics.md").read_text()
    metrics = read_json(canned / "a.json")["sft"].keys() - {"ci95", "ci95_skipped", "strict", "n"}
    assert [name for name in metrics if f"`{name}`" not in text] == []
