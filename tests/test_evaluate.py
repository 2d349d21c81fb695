import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

import evaluate_sft_fast_robust as evaluation
from evaluation.baselines import best_span, build_prompts, lexical, tune_lexical
from evaluation.html_samples import mark_answers, sample_html
from evaluation.predictions import describe_rows
from evaluation.results import score_rows
from evaluation.selective import threshold_for_precision
from evaluation.slices import slices
from evaluation.tables import delta_rows
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from tests.canned import canned_rows, gold_rows
from utils.completions import render_completion
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, read_jsonl, write_json, write_jsonl
from utils.metrics import DELTA_METRICS
from utils.text import REFUSAL


@pytest.fixture
def home(data_home, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "data").symlink_to(data_home / "data")
    return tmp_path


@pytest.fixture
def test_samples(data_home):
    from utils.schema import read_samples

    return read_samples(data_home / "data/processed/test.jsonl")


def test_gold_completions_score_one_and_nonsense_minus_one(home, test_samples):
    rows = gold_rows(test_samples) + [
        {"id": s["id"], "model": "base", "completion": "The answer is 42."} for s in test_samples
    ]
    write_jsonl(home / "p.jsonl", rows)
    evaluation.main(
        ["--predictions", "p.jsonl", "--test-data", "data/processed/test.jsonl", "--output", "out.json"]
    )
    results = read_json(home / "out.json")
    sft = results["sft"]
    base = results["base"]
    for name in (
        "em",
        "f1",
        "citation_correctness",
        "citation_f1",
        "refusal_f1",
        "joint_f1",
        "net_score",
        "trust_score",
        "schema_valid_rate",
    ):
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
    evaluation.main(
        ["--predictions", "p.jsonl", "--test-data", "data/processed/test.jsonl", "--output", "out.json"]
    )
    deltas = read_json(home / "out.json")["deltas"]
    assert {"em", "f1", "hallucination_rate", "citation_correctness"} <= deltas.keys() and deltas["em"] == 0.0


def test_a_confidence_threshold_turns_answers_into_refusals(home, test_samples):
    write_jsonl(home / "p.jsonl", gold_rows(test_samples))
    evaluation.main(
        [
            "--predictions",
            "p.jsonl",
            "--test-data",
            "data/processed/test.jsonl",
            "--output",
            "out.json",
            "--confidence-threshold",
            "1.01",
        ]
    )
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
    rows = [
        {
            "id": sample["id"],
            "model": "sft",
            "completion": render_completion("Warsaw", [0], 0.9),
            "shown": [2, 3],
        }
    ]
    terms, parsed = score_rows(rows, [sample])
    assert parsed[0].citations == [2] and terms[0]["citation_correctness"] == 1.0
    rows[0]["completion"] = render_completion("Warsaw", [2], 0.9)
    terms, parsed = score_rows(rows, [sample])
    assert (
        parsed[0].citations == [-1] and terms[0]["citation_correctness"] == 0.0 and terms[0]["valid"] == 0.0
    )


def test_the_lexical_baseline_answers_from_the_best_chunk_and_can_refuse(sample):
    text, citations, _ = lexical(sample, 0.0)
    assert citations in ([0], [2]) and text
    assert lexical(sample, 1e9) == (REFUSAL, [], 0.0)
    assert (
        best_span("Marie Curie was born in Warsaw in 1867.", "Where was Marie Curie born?") != "Marie Curie"
    )


# --- slices


def test_slices_by_hops_chunks_and_popularity(sample, unanswerable):
    def row(i, popularity=None, **fields):
        return {
            **sample,
            "id": f"popqa:{i}",
            "metadata": {} if popularity is None else {"popularity": popularity},
            **fields,
        }

    rows = [
        row(0, 5),
        row(1, 10, support_sets=[[0, 2]]),
        row(2, 1500, support_sets=[[0, 1, 2], [0, 1, 2, 3]]),
        {**unanswerable, "metadata": {}},
    ]
    found = slices(rows)
    assert found["hops"] == {"1": [0], "2": [1], "3 or more": [2]}
    assert found["chunks"] == {"2": [3], "4": [0, 1, 2]} and found["answerability"] == {
        "answerable": [0, 1, 2],
        "unanswerable": [3],
    }
    assert found["popularity"] == {"5": [0], "10": [1], "1,500": [2]}
    assert "popularity" not in slices([unanswerable | {"metadata": {}}])


def test_equal_popularity_stays_in_one_part(sample):
    rows = [{**sample, "metadata": {"popularity": value}} for value in [1, 1, 1, 1, 2, 9]]
    assert slices(rows)["popularity"] == {"1": [0, 1, 2, 3], "2 to 9": [4, 5]}


# --- fair comparisons


def test_closed_book_and_gold_only_show_what_they_say(tokenizer, sample, unanswerable):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    row = {**sample, "support_sets": [[2]], "support_spans": [2], "hard_negatives": [0, 1, 3]}
    gold, closed = (
        build_prompts(builder, [row, unanswerable], view) for view in ("gold_only", "closed_book")
    )
    assert gold[0].shown == [2] and [c["title"] for c in gold[0].chunks] == ["Warsaw"] and gold[1].shown == []
    assert closed[0].shown == closed[1].shown == [] and "museum" not in tokenizer.decode(closed[0].ids)
    # Number 0 of a gold-only prompt is chunk 2 of the sample; nothing can be cited from a closed book.
    completion = render_completion("Warsaw", [0], 0.9)
    for prompt, correct in ((gold[0], 1.0), (closed[0], 0.0)):
        terms, _ = score_rows([{"id": row["id"], "completion": completion, "shown": prompt.shown}], [row])
        assert terms[0]["citation_correctness"] == correct and terms[0]["em"] == 1.0


def test_every_opponent_is_also_held_to_the_schema():
    flags = [
        "--model-path",
        "m",
        "--base-model",
        "b",
        "--test-data",
        "t",
        "--compare-baseline",
        "--baseline-fewshot",
        "--constrained",
        "--output",
        "o.json",
    ]
    plan = evaluation.plan_models(evaluation.build_parser().parse_args(flags), "default")
    assert list(plan) == [
        "sft",
        "sft_constrained",
        "base",
        "base_fewshot",
        "base_constrained",
        "base_fewshot_constrained",
    ]
    assert plan["base_fewshot_constrained"] == ("fewshot", None)


def test_every_baseline_on_request_is_a_model_of_the_results(home, tiny_gemma_dir):
    flags = [
        "--model-path",
        str(tiny_gemma_dir),
        "--base-model",
        str(tiny_gemma_dir),
        "--test-data",
        "data/processed/test.jsonl",
        "--limit",
        "4",
    ]
    asked = [
        "--compare-baseline",
        "--baseline-fewshot",
        "--baseline-closed-book",
        "--baseline-gold-only",
        "--max-new-tokens",
        "2",
        "--output",
        "out.json",
    ]
    evaluation.main([*flags, *asked])
    results = read_json(home / "out.json")
    names = {"base_fewshot", "closed_book", "gold_only"}
    assert names < results["baselines"].keys() and set(results["deltas_to"]) == {
        "base",
        *results["baselines"],
    }
    rows = [row for _, row in read_jsonl(home / "out_predictions.jsonl")]
    assert len(rows) == 20 and all({"outcome", "em", "f1", "citation_f1"} <= row.keys() for row in rows)
    assert (
        all(row["shown"] == [] for row in rows if row["model"] == "closed_book")
        and (home / "out_calibration.png").is_file()
    )
    evaluation.main(
        [
            "--predictions",
            "out_predictions.jsonl",
            "--test-data",
            "data/processed/test.jsonl",
            "--limit",
            "4",
            "--output",
            "again.json",
        ]
    )
    again = read_json(home / "again.json")
    assert again["baselines"] == results["baselines"] and again["deltas"] == results["deltas"]


def test_the_lexical_threshold_is_the_best_on_val(test_samples):
    threshold = tune_lexical(test_samples)

    def net(at):
        rows = [{"id": s["id"], "completion": render_completion(*lexical(s, at))} for s in test_samples]
        return sum(term["net_score"] for term in score_rows(rows, test_samples)[0])

    assert all(net(threshold) >= net(at) for at in (0.0, 1.0, 2.0, 4.0, 8.0)) and tune_lexical([]) == 0.0


# --- selective answering


def test_the_threshold_for_a_precision_by_hand():
    confidences = [0.9, 0.9, 0.8, 0.7, 0.6]
    right = [True, True, False, True, False]
    # At 0.6: 3 of 5; at 0.7: 3 of 4; at 0.8: 2 of 3; at 0.9: 2 of 2.
    assert threshold_for_precision(confidences, right, 0.75) == {
        "threshold": 0.7,
        "precision": 0.75,
        "coverage": 0.8,
        "n_kept": 4,
    }
    assert threshold_for_precision(confidences, right, 0.8)["threshold"] == 0.9
    assert threshold_for_precision([0.5], [False], 0.1) is None


def calibration_of(samples, rows):
    from utils.calibration import fit_isotonic
    from utils.scoring import is_right_answer

    _, parsed = score_rows(rows, samples)
    answers = [
        {
            "id": s["id"],
            "probability": r["probability"],
            "stated": p.confidence,
            "right": is_right_answer(p, s),
        }
        for s, r, p in zip(samples, rows, parsed)
        if p.is_answer
    ]
    return {
        "isotonic": fit_isotonic([a["probability"] for a in answers], [a["right"] for a in answers]),
        "answers": answers,
    }


@pytest.mark.parametrize("kind", ["stated", "calibrated"])
def test_wanted_precision_takes_its_threshold_from_val_and_reports_test(kind, home, data_home, test_samples):
    from utils.schema import read_samples

    val = read_samples(data_home / "data/processed/val.jsonl")
    (home / "sft/checkpoint-best").mkdir(parents=True)
    write_json(home / "sft/calibration.json", calibration_of(val, canned_rows(val, "sft", 0.4, 3)))
    write_jsonl(
        home / "p.jsonl", canned_rows(test_samples, "sft", 0.4, 4) + canned_rows(test_samples, "base", 0.4, 5)
    )
    flags = [
        "--predictions",
        "p.jsonl",
        "--test-data",
        "data/processed/test.jsonl",
        "--model-path",
        "sft/checkpoint-best",
        "--output",
        "out.json",
    ]
    evaluation.main([*flags, "--wanted-precision", "0.8", "--confidence-kind", kind])
    selective = read_json(home / "out.json")["selective"]
    assert selective["val"]["precision"] >= 0.8 and selective["threshold"] == selective["val"]["threshold"]
    # A calibrated threshold belongs to the checkpoint, a stated one to every model.
    assert set(selective["test"]) == ({"sft", "base"} if kind == "stated" else {"sft"})
    evaluation.main(flags)
    before = read_json(home / "out.json")["sft"]
    assert (
        selective["test"]["sft"]["n_answers"] == round(before["answered_rate"] * before["n"])
        and before["ece_calibrated"] is not None
    )
    with pytest.raises(UsageError, match="no stated confidence reaches it"):
        evaluation.main([*flags, "--wanted-precision", "1.01"])


def test_thresholds_without_a_checkpoint_say_what_is_missing(home, test_samples):
    write_jsonl(home / "p.jsonl", gold_rows(test_samples))
    flags = ["--predictions", "p.jsonl", "--test-data", "data/processed/test.jsonl"]
    with pytest.raises(DataError, match="val answers"):
        evaluation.main([*flags, "--wanted-precision", "0.9"])
    with pytest.raises(DataError, match="isotonic"):
        evaluation.main([*flags, "--confidence-threshold", "0.9", "--confidence-kind", "calibrated"])
    with pytest.raises(UsageError, match="give one"):
        evaluation.main([*flags, "--confidence-threshold", "0.9", "--wanted-precision", "0.9"])
    with pytest.raises(UsageError, match="--test-data"):
        evaluation.main(["--predictions", "p.jsonl"])


# --- what people read


@pytest.fixture
def canned(home, test_samples):
    """A rescored run with two models and its HTML page."""
    rows = canned_rows(test_samples, "sft", 0.3, 1) + canned_rows(test_samples, "base", 0.8, 2)
    rows[0]["completion"] = '{"answer": "<script>alert(1)</script>", "citations": [0], "confidence": 0.9}'
    rows[1]["completion"] = '"><img src=x onerror=alert(2)></details>'
    write_jsonl(home / "p.jsonl", rows)
    flags = ["--predictions", "p.jsonl", "--test-data", "data/processed/test.jsonl", "--output", "a.json"]
    evaluation.main([*flags, "--report", "a.html"])
    return home


def test_the_report_is_one_page_that_escapes_what_models_say(canned, test_samples):
    page = (canned / "a.html").read_text()
    assert (
        "<script>alert" not in page
        and "&lt;script&gt;alert(1)" in page
        and "<img src=x" not in page
        and "&quot;&gt;&lt;img src=x" in page
    )
    assert page.count("<script>") == 1 and "http://" not in page and "https://" not in page
    # The policy lets the page's own script run and no other, whatever slipped through.
    script = page[page.index("<script>") + 8 : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and "default-src 'none'" in page
    assert page.count('<details class="s"') == len(test_samples) and page.count("data:image/png;base64,") == 2
    parser = HTMLParser()
    parser.feed(page)


def test_the_report_marks_support_citations_and_answers(sample):
    completion = render_completion("Paris", [1], 0.8)
    parsed = {"sft": score_rows([{"id": sample["id"], "completion": completion}], [sample])[1][0]}
    html = sample_html(sample, parsed, {"sft": completion})
    lines = html[html.index("<ol") :].split("<li ")[1:]
    assert (
        'class="g"' in lines[0]
        and "gold support" in lines[0]
        and "born in <mark>Warsaw</mark>" in lines[0]
        and "cited" not in lines[0]
    )
    assert (
        'class="c"' in lines[1]
        and "cited by sft" in lines[1]
        and 'taught in <mark class="w">Paris</mark>' in lines[1]
    )
    assert "wrong answer" in html and "cites 1, confidence 0.8" in html


def test_answers_are_marked_as_words_and_escaped():
    assert mark_answers("In 1912 or 2, <b>", ["2"], []) == "In 1912 or <mark>2</mark>, &lt;b&gt;"
    assert (
        mark_answers("New York City and new york", ["New York", "New York City"], [])
        == "<mark>New York City</mark> and <mark>new york</mark>"
    )
    assert mark_answers("a < b", [], []) == "a &lt; b"


def test_the_report_of_a_thousand_long_samples_stays_below_3_mb(home, test_samples):
    from evaluation.html_report import write_report
    from evaluation.results import score_all

    long = [
        {"title": f"Page {i}", "text": f"{'Some words of evidence that nobody cites. ' * 12}{i}"}
        for i in range(8)
    ]
    samples = [
        {**s, "id": f"{s['source']}:{i}", "evidence_chunks": s["evidence_chunks"] + long}
        for i, s in enumerate((test_samples * (1000 // len(test_samples) + 1))[:1000])
    ]
    rows = canned_rows(samples, "sft", 0.3, 1)
    results, parsed = score_all(rows, samples, 0)
    results["run"] = {
        "settings": {"test_data": "t", "predictions": "p"},
        "started": "now",
        "git_commit": None,
        "gold_cut": 0,
        "packages": {},
        "inputs": {},
    }
    note = write_report(home / "long.html", results, rows, parsed, samples)
    size = (home / "long.html").stat().st_size
    assert (
        size < 3_000_000
        and "cut to" in note
        and (home / "long.html").read_text().count('<details class="s"') == 1000
    )


def test_the_terminal_shows_every_model_and_says_which_differences_are_none(canned, capsys, test_samples):
    rows = gold_rows(test_samples) + gold_rows(test_samples, "base")
    write_jsonl(canned / "q.jsonl", rows)
    evaluation.main(
        ["--predictions", "q.jsonl", "--test-data", "data/processed/test.jsonl", "--output", "b.json"]
    )
    text = capsys.readouterr().out
    assert all(
        name in text
        for name in (
            "sft",
            "base",
            "always_refuse",
            "cite_first_chunk",
            "lexical",
            "sft by source",
            "sft by hops",
        )
    )
    assert delta_rows(
        {
            "em": 0.1,
            **dict.fromkeys(DELTA_METRICS[1:], 0.2),
            "ci95": {"em": [-0.1, 0.3], **dict.fromkeys(DELTA_METRICS[1:], [0.1, 0.3])},
        }
    )[:2] == [
        ["em", "+0.100", "[-0.100, +0.300]", "interval includes 0"],
        ["f1", "+0.200", "[+0.100, +0.300]", "better"],
    ]


def test_compare_prints_what_differs_and_paired_differences(canned, capsys, test_samples):
    write_jsonl(canned / "q.jsonl", gold_rows(test_samples))
    evaluation.main(
        ["--predictions", "q.jsonl", "--test-data", "data/processed/test.jsonl", "--output", "b.json"]
    )
    capsys.readouterr()
    evaluation.main(["--compare", "a.json", "b.json"])
    text = capsys.readouterr().out
    assert (
        "predictions" in text
        and "p.jsonl" in text
        and "q.jsonl" in text
        and f"sft, B against A, {len(test_samples)} samples" in text
    )
    line = next(line for line in text.splitlines() if line.startswith("net_score"))
    assert float(line.split()[1]) == pytest.approx(
        1.0 - read_json(canned / "a.json")["sft"]["net_score"], abs=0.001
    )
    evaluation.main(["--compare", "a.json", "a.json"])
    text = capsys.readouterr().out
    assert "settings, inputs and versions are the same" in text and "+0.000" in text


def test_compare_says_why_there_are_no_paired_differences(canned, capsys):
    (canned / "p.jsonl").unlink()
    evaluation.main(["--compare", "a.json", "a.json"])
    assert "no paired differences" in capsys.readouterr().out
    write_json(canned / "other.json", {"x": 1})
    with pytest.raises(DataError, match="not a results file"):
        evaluation.main(["--compare", "a.json", "other.json"])


def test_prediction_rows_say_what_became_of_them(sample, unanswerable):
    samples = [sample, unanswerable]
    rows = [
        {"id": s["id"], "model": "sft", "completion": render_completion("Warsaw", [0], 0.9)} for s in samples
    ]
    _, parsed = score_rows(rows, samples)
    described = describe_rows(rows, {"sft": parsed}, samples)
    assert [row["outcome"] for row in described] == ["right answer", "answered the unanswerable"]
    assert (
        described[0]["em"] == described[0]["citation_f1"] == 1.0
        and described[0]["citations"] == [0]
        and described[1]["f1"] == 0.0
    )


def test_docs_explain_every_figure_of_a_results_file(canned):
    text = (Path(evaluation.__file__).parent / "docs/metrics.md").read_text()
    metrics = read_json(canned / "a.json")["sft"].keys() - {"ci95", "ci95_skipped", "strict", "n"}
    assert [name for name in metrics if f"`{name}`" not in text] == []
