"""The report of the pipeline: what its page shows of a home, and that no input breaks or enters it."""

import base64
import hashlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

import evaluate_sft_fast_robust as evaluation
from evaluation.figures import calibration_charts, confidence_charts, reward_charts, sft_charts
from evaluation.palette import COLORS, colors_of
from evaluation.plots import plot_charts
from evaluation.results import score_all, score_rows
from reporting import summary
from reporting.answered import answered_samples
from reporting.asked import asking_facts
from reporting.cards import anchor, card, marked
from reporting.chain import apart, find_outputs, holds
from reporting.charts import nice_ticks
from reporting.evaluations import Evaluation, _selection
from reporting.html import PageWriter
from reporting.outputs import Outputs
from reporting.page import render
from reporting.pipeline import refresh_report, write_report
from reporting.stages import STAGES, all_views, made_commands
from reporting.staleness import older_than_checkpoint
from reporting.tables import outcome_bars
from tests.canned import canned_rows, gold_rows
from tests.test_docs import parse
from utils.completions import render_completion
from utils.jsonl import read_json, sha256_file, write_json, write_jsonl
from utils.schema import read_samples
from utils.scoring import outcome

TEST_DATA = "--test-data data/processed/test.jsonl"
VOID = {"meta", "br", "wbr", "input", "link", "hr", "img"}


class Strict(HTMLParser):
    """Fails on a tag that is closed in the wrong place, and keeps every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def tags_of(page: str) -> list[tuple[str, dict]]:
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    return parser.tags


@pytest.fixture
def test_samples(data_home):
    return read_samples(data_home / "data/processed/test.jsonl")


def evaluate(flags: str) -> None:
    evaluation.main(flags.split())


# --- the page and its safety


@pytest.fixture
def canned(home, test_samples):
    """A rescored run with two models, of which two completions are hostile, and its page."""
    rows = canned_rows(test_samples, "sft", 0.3, 1) + canned_rows(test_samples, "base", 0.8, 2)
    # One text that is valid JSON and one that is not: both ways into the page must escape.
    rows[0]["completion"] = '{"answer": "<script>alert(1)</script>", "citations": [0], "confidence": 0.9}'
    rows[1]["completion"] = '"><img src=x onerror=alert(2)></details>'
    write_jsonl(home / "p.jsonl", rows)
    evaluate(f"--predictions p.jsonl {TEST_DATA} --output a.json --report a.html")
    return home


def test_the_report_is_one_page_that_escapes_what_models_say(canned, test_samples):
    page = (canned / "a.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert "<img src=x" not in page and "img src=x onerror" in page
    assert page.count("<script>") == 1 and "http://" not in page and "https://" not in page
    # The policy lets the page's own script run and no other, whatever slipped through.
    script = page[page.index("<script>") + 8 : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page and "default-src 'none'" in page
    tags = tags_of(page)
    assert sum(tag == "details" and attrs.get("class") == "s" for tag, attrs in tags) == len(test_samples)
    # Pictures are drawn in the page: nothing is loaded, and no attribute runs anything.
    assert not {"img", "link", "iframe", "object", "style-src"} & {tag for tag, _ in tags}
    assert not any(name.startswith("on") or name == "src" for _, attrs in tags for name in attrs)


def test_evaluate_and_every_refresh_write_the_same_page(canned):
    page = (canned / "a.html").read_text()
    assert (canned / "report.html").read_text() == page
    refresh_report(canned)
    assert (canned / "report.html").read_text() == page


def test_ids_are_unique_and_every_link_has_its_target(canned):
    tags = tags_of((canned / "a.html").read_text())
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {attrs["href"] for tag, attrs in tags if tag == "a"}
    assert links and links <= {f"#{name}" for name in ids}
    assert anchor('a b"<x>') == "s-a%20b%22%3Cx%3E"


def test_failures_come_first_and_filters_know_their_kinds(sample, unanswerable):
    right = render_completion("Warsaw", [0], 0.9)
    miscited = render_completion("Warsaw", [1], 0.9)
    over_cited = render_completion("Warsaw", [0, 1], 0.9)
    samples = [{**sample, "id": f"s:{i}"} for i in range(4)]
    said = {"sft": [right, miscited, over_cited, right], "base": [right, right, right, "nothing"]}
    rows = []
    for name, texts in said.items():
        rows += [{"id": s["id"], "model": name, "completion": text} for s, text in zip(samples, texts)]
    results, parsed = score_all(rows, samples, 0)
    answered = answered_samples(samples, {name: parsed[name] for name in said}, rows)
    kinds = {row.sample["id"]: card(row)["kinds"] for row in answered}
    assert kinds == {"s:0": "", "s:1": "failure disagree miscited", "s:2": "miscited", "s:3": "disagree"}

    results["run"] = run_of({})
    page, _ = render(Outputs(Path("x"), {}, []), Evaluation(Path("x/r.json"), results, answered))
    found = [attrs["id"] for tag, attrs in tags_of(page) if tag == "details" and attrs.get("class") == "s"]
    assert found == [anchor(f"s:{i}") for i in (1, 0, 2, 3)]


def run_of(settings: dict) -> dict:
    return {
        "settings": {"test_data": "t", "predictions": "p", **settings},
        **{"started": "now", "git_commit": None, "gold_cut": 0, "packages": {}, "inputs": {}},
    }


def test_the_report_marks_support_citations_and_answers(sample):
    completion = render_completion("Paris", [1], 0.8)
    rows = [{"id": sample["id"], "model": "sft", "completion": completion}]
    _, parsed = score_rows(rows, [sample])
    html = PageWriter().card(card(answered_samples([sample], {"sft": parsed}, rows)[0]))
    lines = html[html.index("<ol") :].split("<li ")[1:]
    # Chunk 0 is support that was not cited, chunk 1 was cited and is not support.
    assert 'class="g ' in lines[0] and "gold support" in lines[0]
    assert "born in <mark>Warsaw</mark>" in lines[0] and "cited" not in lines[0]
    assert 'class=" c"' in lines[1] and "cited by sft" in lines[1]
    assert 'taught in <mark class="w">Paris</mark>' in lines[1]
    assert "wrong answer" in html and "cites 1, confidence 0.8" in html


def test_answers_are_marked_as_words():
    assert marked("In 1912 or 2, <b>", ["2"], []) == [("In 1912 or ", ""), ("2", "answer"), (", <b>", "")]
    # The longest answer wins: "New York" is not marked inside "New York City".
    pieces = marked("New York City and new york", ["New York", "New York City"], [])
    assert pieces == [("New York City", "answer"), (" and ", ""), ("new york", "answer")]
    assert marked("a < b", [], []) == [("a < b", "")]


# --- any size


def long_home(home: Path, test_samples: list[dict], n: int, n_chunks: int) -> list[dict]:
    """A home with predictions for `n` samples of `n_chunks` more long chunks each. Returns the samples."""
    text = "Some words of evidence that nobody cites. " * 12
    long = [{"title": f"Page {i}", "text": f"{text}{i}"} for i in range(n_chunks)]
    samples = []
    for i in range(n):
        s = test_samples[i % len(test_samples)]
        chunks = s["evidence_chunks"] + long
        others = [j for j in range(len(chunks)) if j not in s["support_spans"]]
        row = {**s, "id": f"{s['source']}:{i}", "evidence_chunks": chunks, "hard_negatives": others}
        samples.append({**row, "metadata": {}})
    write_jsonl(home / "long.jsonl", samples)
    write_jsonl(home / "p.jsonl", canned_rows(samples, "sft", 0.3, 1))
    return samples


def test_the_report_of_a_thousand_long_samples_stays_below_3_mb(home, test_samples, capsys):
    long_home(home, test_samples, 1000, 8)
    flags = "--predictions p.jsonl --test-data long.jsonl --output long.json --report long.html"
    evaluate(flags)
    page = home / "long.html"
    # Over 4 MB of evidence: chunks of no interest are cut, no sample is left out.
    assert page.stat().st_size < 3_000_000 and "cut to" in capsys.readouterr().out
    assert page.read_text().count('<details class="s"') == 1000


def test_samples_that_do_not_fit_are_left_out_at_even_steps(home, test_samples):
    samples = long_home(home, test_samples, 3000, 1)
    rows = canned_rows(samples, "sft", 0.3, 1)
    _, parsed = score_rows(rows, samples)
    answered = answered_samples(samples, {"sft": parsed}, rows)
    results, _ = score_all(rows[:40], samples[:40], 0)
    results["run"] = run_of({})
    page, cut = render(Outputs(home, {}, []), Evaluation(home / "r.json", results, answered))
    assert len(page.encode()) < 3_000_000 and "of 3,000 samples" in cut
    n_shown = page.count('<details class="s"')
    n_failures = page.count('data-k="failure')
    share = sum(not row.is_good for row in answered) / len(answered)
    assert n_shown > 1000 and n_failures / n_shown == pytest.approx(share, abs=0.02)


# --- outcome bars


def test_bars_count_what_the_samples_say(test_samples):
    rows = canned_rows(test_samples, "sft", 0.5, 1) + gold_rows(test_samples, "base")
    results, parsed = score_all(rows, test_samples, 0)
    for bar in outcome_bars(results):
        counted: dict[str, int] = {}
        for p, s in zip(parsed[bar["name"]], test_samples):
            counted[outcome(p, s)] = counted.get(outcome(p, s), 0) + 1
        assert {name: n for name, _, n, _, _ in bar["parts"]} == counted
        _, _, _, start, width = bar["parts"][-1]
        assert start + width == pytest.approx(100, abs=0.01)


def test_ticks_are_round_and_cover_the_values():
    assert nice_ticks(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert nice_ticks(0.03, 0.64)[0] == 0.0 and nice_ticks(0.03, 0.64)[-1] >= 0.64
    assert nice_ticks(-1.2, 3)[0] <= -1.2
    # One value alone still has an axis.
    assert len(nice_ticks(5, 5)) > 1


# --- stages


def test_every_stage_says_its_command_before_it_has_run(tmp_path):
    views = all_views(find_outputs(tmp_path))
    assert [view.state for view in views] == ["not run"] * len(STAGES)
    for view in views:
        # A command that its own script would refuse helps nobody.
        parse(view.command)
        assert view.command.startswith(f"python {view.stage.script} ")


def test_the_summary_has_a_help(capsys):
    with pytest.raises(SystemExit) as ended:
        summary.main(["--help"])
    assert ended.value.code == 0
    assert "python -m reporting.summary" in capsys.readouterr().out


def test_an_empty_home_has_a_page(tmp_path):
    path = refresh_report(tmp_path)
    page = path.read_text()
    tags_of(page)
    assert "No verdict yet" in page and page.count("not run</span>") == len(STAGES)


def test_data_alone_shows_its_audit(home, data_home):
    refresh_report(home)
    page = (home / "report.html").read_text()
    audit = read_json(data_home / "data/processed/audit.json")
    assert f"train {audit['n_samples']['train']:,}" in page and "No verdict yet" in page


def test_damaged_files_are_named_and_hide_no_other_stage(canned, capsys):
    (canned / "checkpoints/sft").mkdir(parents=True)
    (canned / "checkpoints/sft/run.json").write_text('{"settings": {"model_name": "m", "lora": 1, ')
    write_json(canned / "robustness.json", {"suites": {"noise": {"n": "x"}}, "run": run_of({})})
    rm = {"settings": {"citation_penalty_weight": 1, "base_model": "m"}, "status": "running"}
    write_json(canned / "checkpoints/rm/run.json", rm)
    path = refresh_report(canned)
    page = path.read_text()
    tags_of(page)
    assert "checkpoints/sft/run.json" in page and "unreadable</span>" in page
    assert "net score of" in page and page.count('<details class="s"') > 10


def test_a_training_without_its_settings_hides_nothing_else(canned):
    run = sft_run("2030-01-01T00:00:00Z")
    del run["settings"]["output_dir"]
    write_json(canned / "checkpoints/sft/run.json", run)
    page = refresh_report(canned).read_text()
    assert "net score of" in page and page.count('<details class="s"') > 10


def test_confidences_are_those_of_the_fit_that_the_evaluation_used(home):
    plain = {"x": [0.0, 1.0], "y": [0.2, 0.2], "n": 9}
    fitted = {"x": [0.0, 1.0], "y": [0.9, 0.9], "n": 9}
    biases = {"refuse_claim": 0.0, "refuse_question": 0.0, "refuted": 0.0}
    decisions = {"biases": biases, "calibration": {"isotonic": fitted}}
    write_json(home / "sft/calibration.json", {"isotonic": plain, "decisions": decisions})
    (home / "sft/checkpoint-best").mkdir()
    for flag, expected in (("fitted", fitted), ("plain", plain), (None, plain)):
        settings = {"model_path": "sft/checkpoint-best", "decisions": flag}
        results = {"selective": {"kind": "calibrated", "threshold": 0.5}, "run": {"settings": settings}}
        assert _selection(home, results).isotonic == expected


def test_a_build_elsewhere_is_what_the_next_commands_train_on(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    settings = {"max_chunk_words": 70, "unanswerable_fraction": 0.3, "config": {}}
    write_json(tmp_path / "wiki/processed/run.json", {"settings": settings})
    commands = {view.stage.name: view.command for view in all_views(find_outputs(tmp_path))}
    assert "--set data.train_path=wiki/processed/train.jsonl" in commands["sft"]
    assert "--set data.val_path=wiki/processed/val.jsonl" in commands["policy"]
    for command in filter(None, commands.values()):
        parse(command)


def test_a_failing_refresh_is_one_note_and_no_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert refresh_report(tmp_path / "file") is None
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_test_data_that_changed_is_said_in_place_of_the_samples(canned, test_samples):
    data = canned / "data"
    data.unlink()
    write_jsonl(canned / "data/processed/test.jsonl", test_samples[1:])
    page = refresh_report(canned).read_text()
    assert "has changed since a run" in page and page.count('<details class="s"') == 0


def sft_run(finished: str) -> dict:
    settings = {"model_name": "m", "lora": {}, "output_dir": "checkpoints/sft", "data": {"train_path": "t"}}
    return {
        "status": "complete",
        "settings": settings,
        "finished": finished,
        "inputs": {},
        "command": ["x", "-c", "y"],
    }


def test_an_evaluation_older_than_its_checkpoint_is_stale(canned):
    results = read_json(canned / "a.json")
    results["run"]["settings"]["model_path"] = "checkpoints/sft/checkpoint-best"
    write_json(canned / "a.json", results)
    for finished, state in (("2001-01-01T00:00:00Z", "done"), ("2999-01-01T00:00:00Z", "stale")):
        write_json(canned / "checkpoints/sft/run.json", sft_run(finished))
        views = {view.stage.name: view for view in all_views(find_outputs(canned))}
        assert views["evaluation"].state == state
    assert "is newer than this" in views["evaluation"].warnings[0]
    assert views["sft"].command == "python train_sft.py -c y"


def test_data_built_again_makes_the_training_stale(tmp_path):
    write_jsonl(tmp_path / "t", [{"id": "a"}])
    run = sft_run("2030-01-01T00:00:00Z") | {"inputs": {"train": sha256_file(tmp_path / "t")}}
    write_json(tmp_path / "sft/run.json", run)
    for rows, state in (([{"id": "a"}], "done"), ([{"id": "b"}], "stale")):
        write_jsonl(tmp_path / "t", rows)
        views = {view.stage.name: view for view in all_views(find_outputs(tmp_path))}
        assert views["sft"].state == state
    assert views["sft"].warnings == ["t has changed since this training"]


def test_a_reward_model_of_other_preferences_is_stale(tmp_path):
    stats = {"n_pairs": 200, "n_samples": 90, "mean_margin": 0.5, "order_consistency": 0.7}
    stats |= {"settings": {"cache": "c", "judge": "llm"}, "pairs_by_models": {"sft over base": 190}}
    write_json(tmp_path / "prefs/preference_stats_c-j.json", stats)
    write_jsonl(tmp_path / "prefs/preferences_c-j.jsonl", [{"id": "a"}])
    settings = {"citation_penalty_weight": 1, "base_model": "m"}
    run = {"settings": settings, "status": "complete", "n_pairs": {"train": 5}, "inputs": {"p": "another"}}
    write_json(tmp_path / "rm/run.json", run)
    views = {view.stage.name: view for view in all_views(find_outputs(tmp_path))}
    assert views["reward"].state == "stale" and "preferences_c-j.jsonl" in views["reward"].warnings[0]
    assert views["preferences"].warnings == [
        "In 190 of 200 pairs sft beats base, so the pairs mostly teach which model wrote the text",
        "the judge's winner changes with the order in 30% of comparisons",
    ]


def test_a_policy_is_a_stage_of_its_own_and_says_whether_its_round_is_kept(tmp_path):
    settings = {
        "sft_model": "sft/checkpoint-best",
        "objective": {"loss": "dpo"},
        "model_name": "m",
        "lora": {},
    }
    facts = {
        "train_seconds": 60,
        "n_rows": 90,
        "n_steps": 9,
        "metric_for_best": "eval_net_score",
        "best": 0.4,
    }
    run = {"settings": settings, "status": "complete", "inputs": {}, **facts}
    for kept, warnings in (
        (True, []),
        (False, ["round not kept: checkpoint-best is the SFT model as it was"]),
    ):
        write_json(tmp_path / "policy/run.json", {**run, "kept": kept, "before": {"eval_net_score": 0.3}})
        views = {view.stage.name: view for view in all_views(find_outputs(tmp_path))}
        assert views["sft"].state == "not run"
        assert views["policy"].state == "done" and views["policy"].warnings == warnings
        assert ("net_score on val", "0.300, now 0.400") in views["policy"].facts


def test_reward_warnings_name_what_separates_the_pairs(tmp_path):
    rm = {"settings": {"citation_penalty_weight": 1, "base_model": "m"}, "status": "complete", "inputs": {}}
    write_json(tmp_path / "rm/run.json", {**rm, "n_pairs": {"train": 5}})
    scores = {}
    for name, area in (("reward", 0.95), ("style_only", 0.92), ("length_only", 0.6)):
        scores[name] = {"accuracy": area, "roc_auc": area, "ci95": {"accuracy": None, "roc_auc": [0.5, 1.0]}}
    write_json(tmp_path / "rm/validation.json", {"test": scores, "n_test_pairs": 30, "n_test_groups": 22})
    view = {view.stage.name: view for view in all_views(find_outputs(tmp_path))}["reward"]
    assert view.warnings == ["style alone separates the pairs: AUC 0.92"]


def test_a_constant_confidence_is_said_in_words(home, test_samples):
    rows = gold_rows(test_samples)
    for row in rows:
        row["completion"] = row["completion"].replace('"confidence": 0.7', '"confidence": 0.9')
    write_jsonl(home / "p.jsonl", rows)
    evaluate(f"--predictions p.jsonl {TEST_DATA} --output a.json --report a.html")
    page = (home / "a.html").read_text()
    assert "sft states a confidence of 0.90 in each of its" in page
    assert "Reliability of the stated confidence" not in page
    assert "constant confidence: sft" in page


def test_paths_with_markup_in_their_names_are_text(home, test_samples):
    odd = "<script>alert(1)</script>'\"&.json"
    write_jsonl(home / "p.jsonl", gold_rows(test_samples))
    evaluate(f"--predictions p.jsonl {TEST_DATA} --output a.json")
    results = read_json(home / "a.json")
    results["run"]["settings"]["model_path"] = odd
    write_json(home / "a.json", results)
    page = refresh_report(home).read_text()
    tags_of(page)
    assert page.count("<script>") == 1 and page.count("&lt;script&gt;alert(1)") > 1


# --- pictures


def test_a_metric_has_one_color_in_every_picture():
    for names in (["em_answerable", "mine", "net_score"], ["net_score", "yours", "em_answerable"]):
        found = dict(zip(names, colors_of(names)))
        assert found["em_answerable"] == "blue" and found["net_score"] == "vermilion"
        # A name without a color gets one that the picture has not used.
        assert len(set(found.values())) == 3 and set(found.values()) <= COLORS.keys()


def test_every_metric_that_a_suite_draws_has_its_own_color():
    for suite in ("em_answerable citation_correctness refusal_f1 net_score", "em_answerable follows_memory"):
        assert len(set(colors_of(suite.split()))) == len(suite.split())


def test_training_charts_mark_the_best_step_and_chance(tmp_path):
    rows = [{"step": 1, "loss": 0.5, "roc_auc": 0.7, "accuracy": 0.6}]
    rows += [
        {"step": 2, "loss": 0.4, "roc_auc": 0.9, "accuracy": 0.8},
        {"step": 3, "loss": 0.6, "roc_auc": 0.9},
    ]
    loss, pairs = reward_charts(
        {"train_losses": [0.7, None, 0.5], "eval_metrics": rows}, {"train": 64, "val": 24}
    )
    # Of two equal areas the one with the lower loss is kept, as train_rm.py does.
    assert loss.best == pairs.best == (2, "best ROC-AUC, step 2")
    assert pairs.guide == (0.5, "chance") and pairs.note == "24 val pairs"
    # A loss that was no number is left out, and keeps its place.
    assert loss.lines[0].points == [(1, 0.7), (3, 0.5)]

    history = {
        "train_losses": [{"step": 5, "loss": 1.0}],
        "eval_metrics": [
            {"step": 5, "eval_loss": 0.9},
            {"step": 10, "eval_loss": 0.8},
            {"step": 15, "eval_loss": None},
        ],
        "config": {},
    }
    (chart,) = sft_charts(history, 1054)
    assert chart.best == (10, "best loss, step 10") and chart.note == "1,054 rows"
    # Of what the JSON says, a part of the rows teaches: the lines are means over other tokens.
    thinned = {**history, "config": {"training": {"skeleton_share": 0.25}}}
    (of_part,) = sft_charts(thinned, 1054)
    assert "completion tokens" in chart.title and "completion tokens" not in of_part.title
    assert "1,054 rows; train: 25% of the rows have labels on the JSON" in of_part.note
    plot_charts(tmp_path / "curves.png", [chart, pairs])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_reward_charts_mark_the_checkpoint_that_is_kept():
    rows = [
        {"step": 1, "loss": 0.6, "roc_auc": 0.9, "accuracy": 0.8, "macro_roc_auc": 0.7},
        {"step": 2, "loss": 0.5, "roc_auc": 0.8, "accuracy": 0.8, "macro_roc_auc": 0.8},
    ]
    loss, pairs = reward_charts({"train_losses": [0.7], "eval_metrics": rows}, {})
    # Kinds of pairs weigh alike in what the checkpoint is chosen by.
    assert loss.best == pairs.best == (2, "best ROC-AUC, step 2")
    # Heads that score all alike: -log sigmoid(0), and one of two at random.
    assert loss.guide == (0.6931, "chance") and pairs.guide == (0.5, "chance")


def test_the_calibration_of_preferences_is_drawn_beside_the_ideal():
    bins = [{"n": 3, "confidence": 0.55, "accuracy": 0.5}, {"n": 5, "confidence": 0.95, "accuracy": 0.8}]
    (chart,) = calibration_charts({"reliability": bins, "n_test_pairs": 8})
    assert chart.lines[0].points == [(0.55, 0.5), (0.95, 0.8)]
    assert chart.diagonal == "ideal" and chart.note == "8 test pairs"
    # A validation of an earlier version has none.
    assert calibration_charts({"n_test_pairs": 8}) == []


def test_a_constant_confidence_is_no_curve():
    constant = {
        "reliability": [{"n": 40, "confidence": 0.9, "accuracy": 0.6}],
        "risk_coverage": [{"threshold": 0.9, "coverage": 1.0, "risk": 0.4}],
    }
    for chart in confidence_charts({"sft": constant}):
        assert (
            chart.lines == [] and "0.90 in each of its 40 answers, of which 60% are right" in chart.words[0]
        )


# --- what belongs to a home


def test_a_home_inside_another_and_an_external_test_set_are_not_its_own(tmp_path):
    inner = tmp_path / "demo"
    write_json(inner / "checkpoints/sft/run.json", sft_run("2030-01-01T00:00:00Z"))
    assert find_outputs(tmp_path).chosen("sft")
    (inner / "report.html").write_text("")
    assert find_outputs(tmp_path).chosen("sft") is None and find_outputs(inner).chosen("sft")
    # A folder of files, to which `--report` of an evaluation was written, is none.
    write_json(tmp_path / "eval/b.json", {"suites": {}, "run": run_of({})})
    (tmp_path / "eval/report.html").write_text("")
    assert find_outputs(tmp_path).chosen("robustness").path == tmp_path / "eval/b.json"

    settings = {"max_chunk_words": 70, "unanswerable_fraction": 0.3}
    write_json(tmp_path / "data/processed/run.json", {"settings": {**settings, "config": {}}})
    external = {**settings, "config": {"evaluation_only": True}}
    write_json(tmp_path / "external/processed/run.json", {"settings": external, "finished": "2999"})
    assert find_outputs(tmp_path).chosen("data").path == tmp_path / "data/processed"


def test_the_repository_as_a_home_has_no_outputs_of_its_own():
    root = Path(__file__).resolve().parent.parent
    # A working copy may have runs of its own, but none is one of those that are published with it.
    found = [run.path for runs in find_outputs(root).runs.values() for run in runs]
    assert not [path for path in found if (root / "benchmarks") in path.parents]


def test_a_link_to_a_file_that_is_gone_hides_nothing(tmp_path):
    (tmp_path / "a.json").symlink_to(tmp_path / "gone.json")
    write_json(tmp_path / "b.json", {"suites": {}, "run": run_of({})})
    outputs = find_outputs(tmp_path)
    assert outputs.chosen("robustness").path.name == "b.json" and outputs.problems == []


@pytest.fixture
def mixed(tmp_path):
    """One whole chain, "a", beside newer side runs of every stage that have nothing to do with it."""
    for name, when in (("a", "2030"), ("b", "2031")):
        write_jsonl(tmp_path / name / "processed/train.jsonl", [{"id": name}])
        settings = {"max_chunk_words": 70, "unanswerable_fraction": 0.3}
        write_json(tmp_path / name / "processed/run.json", {"settings": settings, "finished": when})
        trained = {**sft_run(when), "inputs": {"t": sha256_file(tmp_path / name / "processed/train.jsonl")}}
        trained["settings"] |= {"output_dir": f"sft/{name}"}
        write_json(tmp_path / f"sft/{name}/run.json", trained)
        model = {"model_path": f"sft/{name}/checkpoint-best"}
        write_json(tmp_path / f"r{name}.json", {"suites": {}, "run": {**run_of(model), "finished": when}})
        write_jsonl(tmp_path / f"prefs/preferences_{name}-j.jsonl", [{"id": name}])
        write_json(tmp_path / f"prefs/preference_stats_{name}-j.json", {"settings": {"cache": name}})
        made = {"settings": {"sft_model": model["model_path"]}}
        write_json(tmp_path / f"prefs/cache/{name}/manifest.json", made)
        pairs = sha256_file(tmp_path / f"prefs/preferences_{name}-j.jsonl")
        rewarded = {"settings": {"citation_penalty_weight": 1}, "finished": when, "inputs": {"p": pairs}}
        write_json(tmp_path / f"rm/{name}/run.json", rewarded)
    model = {"model_path": "sft/a/checkpoint-best"}
    run = {**run_of({**model, "predictions": None}), "finished": "2030"}
    results = {"sft": {"n": 200}, "baselines": {}, "run": run}
    write_json(tmp_path / "whole.json", results)
    return tmp_path


def chosen(home: Path) -> dict[str, str]:
    outputs = find_outputs(home)
    return {stage: outputs.shown(runs[0].path) for stage, runs in outputs.runs.items()}


def test_the_stages_follow_one_chain_from_the_evaluation(mixed):
    of_a = {
        "data": "a/processed",
        "sft": "sft/a",
        "evaluation": "whole.json",
        "robustness": "ra.json",
        "preferences": "prefs/preference_stats_a-j.json",
        "reward": "rm/a",
    }
    assert chosen(mixed) == of_a
    views = {view.stage.name: view for view in all_views(find_outputs(mixed))}
    assert dict(views["sft"].facts)["other runs"] == "sft/b"
    assert STAGES[4].next_command(find_outputs(mixed)) == (
        "python robustness.py --model-path sft/a/checkpoint-best --test-data a/processed/test.jsonl"
    )
    # An evaluation of a merged model belongs to the training that it was merged from.
    results = read_json(mixed / "whole.json")
    results["run"]["settings"]["model_path"] = "merged"
    write_json(mixed / "whole.json", results)
    write_json(mixed / "merged/run.json", {"merged_from": "sft/a/checkpoint-best"})
    assert chosen(mixed) == of_a
    # Scored again, it is still about the same model.
    results["run"]["settings"] |= {"predictions": "whole_predictions.jsonl", "model_path": None}
    write_json(mixed / "again.json", {**results, "run": {**results["run"], "finished": "2032"}})
    assert chosen(mixed) == {**of_a, "evaluation": "whole.json"}


def test_a_policy_that_was_evaluated_is_shown_with_the_model_it_was_trained_from(mixed):
    settings = {"sft_model": "sft/a/checkpoint-best", "objective": {"loss": "dpo"}, "output_dir": "policy/p"}
    trained = {**sft_run("2030-06"), "inputs": {}}
    trained["settings"] = {**trained["settings"], **settings}
    trained["command"] = ["train_dpo.py", "-c", "dpo.yaml"]
    write_json(mixed / "policy/p/run.json", trained)
    results = read_json(mixed / "whole.json")
    results["run"] |= {"finished": "2030-03", "command": ["evaluate_sft_fast_robust.py", "--limit", "9"]}
    results["run"]["settings"]["model_path"] = "policy/p/checkpoint-best"
    write_json(mixed / "whole.json", results)
    outputs = find_outputs(mixed)
    assert chosen(mixed)["sft"] == "sft/a" and chosen(mixed)["policy"] == "policy/p"
    views = {view.stage.name: view for view in all_views(outputs)}
    assert not any("not the model of" in text for text in views["sft"].warnings)
    # The policy ended after its evaluation.
    evaluated = outputs.chosen("evaluation")
    assert older_than_checkpoint(outputs, evaluated, "policy/p/checkpoint-best")
    assert not older_than_checkpoint(outputs, evaluated, "sft/a/checkpoint-best")
    commands = [command.split()[1] for command in made_commands(outputs, all_views(outputs))]
    assert commands.index("train_dpo.py") < commands.index("evaluate_sft_fast_robust.py")


def test_a_model_path_may_be_relative_to_where_the_command_ran(mixed, monkeypatch):
    monkeypatch.chdir(mixed.parent)
    (mixed / "sft/a/checkpoint-best").mkdir()
    run = find_outputs(mixed).chosen("sft")
    assert holds(mixed, run, f"{mixed.name}/sft/a/checkpoint-best")
    assert holds(mixed, run, "sft/a/checkpoint-best") and not holds(mixed, run, "sft/ab/checkpoint-best")


def test_without_an_evaluation_the_newest_complete_training_is_shown(mixed):
    (mixed / "whole.json").unlink()
    assert chosen(mixed)["sft"] == "sft/b" and chosen(mixed)["data"] == "b/processed"
    run = read_json(mixed / "sft/b/run.json")
    write_json(mixed / "sft/b/run.json", {**run, "status": "running"})
    found = chosen(mixed)
    assert found["sft"] == "sft/a" and found["data"] == "a/processed" and found["reward"] == "rm/a"
    views = {view.stage.name: view for view in all_views(find_outputs(mixed))}
    assert (
        dict(views["sft"].facts)["other runs"] == "sft/b (unfinished)" and views["sft"].state != "unfinished"
    )


def test_stages_that_nothing_links_say_so(mixed):
    results = read_json(mixed / "whole.json")
    results["run"]["settings"]["model_path"] = "somebody/else"
    write_json(mixed / "whole.json", results)
    for file in ("a/processed", "b/processed"):
        write_jsonl(mixed / file / "train.jsonl", [{"id": "new"}])
    (mixed / "rb.json").unlink()
    outputs = find_outputs(mixed)
    assert chosen(mixed)["sft"] == "sft/b"
    for stage in ("sft", "data", "robustness"):
        assert apart(outputs, stage, outputs.chosen(stage))
    assert apart(outputs, "preferences", outputs.chosen("preferences")) == []


def test_a_quick_look_does_not_replace_the_evaluation_of_many_samples(tmp_path):
    def results(name: str, n: int, finished: str):
        run = {**run_of({}), "finished": finished}
        write_json(tmp_path / name, {"sft": {"n": n}, "baselines": {"lexical": {"n": n}}, "run": run})

    results("whole.json", 200, "2030-01-01T00:00:00Z")
    results("quick.json", 6, "2030-01-02T00:00:00Z")
    assert find_outputs(tmp_path).chosen("evaluation").path.name == "whole.json"
    # Of those that are about as large, the newest counts.
    results("other.json", 150, "2030-01-03T00:00:00Z")
    assert find_outputs(tmp_path).chosen("evaluation").path.name == "other.json"


@pytest.fixture
def fitted_home(mixed):
    """`mixed`, whose evaluation has the decisions that were fitted for its training."""
    results = read_json(mixed / "whole.json")
    results["run"]["settings"] |= {"decisions": "fitted"}
    results["run"]["command"] = ["evaluate_sft_fast_robust.py", "--decisions", "fitted"]
    write_json(mixed / "whole.json", results)
    run = read_json(mixed / "sft/a/run.json")
    write_json(mixed / "sft/a/run.json", {**run, "command": ["train_sft.py", "-c", "c.yaml", "--resume"]})
    return mixed


def commands_of(home: Path) -> list[str]:
    outputs = find_outputs(home)
    return made_commands(outputs, all_views(outputs))


@pytest.mark.parametrize(
    "recorded, flags",
    [
        ({"command": ["x", "-c", "c.yaml", "--set", "a.b=1", "--calibrate"]}, "--set a.b=1 --calibrate"),
        # Of an earlier version.
        ({}, "--set data.max_calibration_samples=199 --calibrate"),
    ],
)
def test_the_commands_have_the_fit_of_the_decisions_before_its_evaluation(recorded, flags, fitted_home):
    train = "python train_sft.py -c c.yaml"
    evaluated = "python evaluate_sft_fast_robust.py --decisions fitted"
    assert commands_of(fitted_home)[:2] == [train, evaluated]
    fit = {"n_samples": 190, "n_left_out": 9, **recorded}
    write_json(fitted_home / "sft/a/calibration.json", {"decisions": fit})
    assert commands_of(fitted_home)[:3] == [train, f"{train} {flags}", evaluated]
    # Nothing that is shown was made with the fit.
    results = read_json(fitted_home / "whole.json")
    results["run"]["settings"]["decisions"] = "plain"
    write_json(fitted_home / "whole.json", results)
    assert commands_of(fitted_home)[:2] == [train, evaluated]


def test_a_stage_says_that_its_figures_are_under_fitted_decisions_and_orders(canned):
    assert asking_facts({"decisions": "plain", "orders": None}) == []
    results = read_json(canned / "a.json")
    results["run"]["settings"] |= {"decisions": "fitted", "orders": 3}
    write_json(canned / "a.json", results)
    page = refresh_report(canned).read_text()
    assert "<dt>decisions</dt><dd>fitted on val</dd>" in page
    assert "<dt>orders</dt><dd>what 3 orders of the evidence agree on</dd>" in page
    assert "the SFT model, with decisions fitted on val and asked in 3 orders of the evidence, has" in page


def test_the_next_commands_fit_the_base_and_take_other_samples_than_those_of_the_training(tmp_path):
    run = sft_run("2030-01-01T00:00:00Z")
    run["settings"]["model_name"] = "embedded-gemma"
    write_json(tmp_path / "checkpoints/sft/run.json", run)
    commands = {view.stage.name: view.command for view in all_views(find_outputs(tmp_path))}
    assert commands["preferences"].endswith("--data-path data/processed/val.jsonl")
    assert commands["reward"] == "python train_rm.py -c configs/demo/rm.yaml --set base_model=embedded-gemma"


@pytest.mark.parametrize("valid", [0.5, 0.0])
def test_a_training_that_never_refuses_is_warned_of(valid, tmp_path):
    run = sft_run("2030-01-01T00:00:00Z")
    val = {"eval_over_refusal_rate": 0.0, "eval_under_refusal_rate": 1.0, "eval_schema_valid_rate": valid}
    write_json(tmp_path / "sft/run.json", {**run, "val": val})
    (view,) = (view for view in all_views(find_outputs(tmp_path)) if view.stage.name == "sft")
    assert view.warnings == [
        "refuses nearly no unanswerable question of val",
        f"only {valid:.0%} of its val answers keep the format",
    ]


def test_a_refresh_leaves_out_samples_that_take_long_to_read_and_report_does_not(canned, monkeypatch):
    monkeypatch.setattr("reporting.pipeline._MAX_SAMPLE_BYTES", 1000)
    page = refresh_report(canned).read_text()
    assert "which only --report reads" in page and page.count('<details class="s"') == 0
    write_report(canned / "all.html", canned / "a.json")
    assert (canned / "all.html").read_text().count('<details class="s"') > 10
