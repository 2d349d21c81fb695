"""Shortcuts: what the surface of samples gives away, and the rules that answer from it."""

import random
from pathlib import Path

import numpy as np
import pytest

from evaluation.baselines import baseline_predictions, read_tuning
from evaluation.fitted_baselines import claim_answers, surface_answers
from evaluation.overlap_baselines import overlap_rule, title_overlap
from evaluation.results import WITHOUT_MODEL, score_all
from evaluation.tables import results_text, strongest_baseline
from evaluation.thresholds import tuned_by_source
from evidence.probes import Cut, balanced_accuracy, best_cut, pick_credit
from evidence.queries import CLAIM_QUESTION
from evidence.shortcuts import LIMITS, TASKS, measure_shortcuts, shortcut_warnings
from evidence.surface import asks_verdict, nearest_chunk, says_everything, surface_of
from reporting.answered import answered_samples
from reporting.evaluations import Evaluation
from reporting.outputs import Outputs
from reporting.page import render
from tests.conftest import run_stage
from utils.completions import render_completion
from utils.schema import read_samples
from utils.text import REFUSAL


def claim_sample(claim: str, chunks: list[tuple[str, str]]) -> dict:
    """A FEVER sample without any gold: what a rule may see."""
    return {
        "id": "fever:1",
        "source": "fever",
        "question": CLAIM_QUESTION.format(claim=claim),
        "evidence_chunks": [{"title": title, "text": text} for title, text in chunks],
        "metadata": {"claim": claim},
    }


WARSAW = ("Marie Curie", "Marie Curie was born in Warsaw in 1867.")
PARIS = ("Paris", "Paris is a city on the Seine.")


def hide_gold(sample: dict) -> dict:
    """The sample with another gold and no metadata, which no rule may notice."""
    n_chunks = len(sample["evidence_chunks"])
    gold = {"answer": "nonsense", "answer_aliases": ["nonsense"], "answerable": True, "group": "g"}
    ids = {"support_sets": [[0]], "support_spans": [0], "hard_negatives": list(range(1, n_chunks))}
    return {**sample, **gold, **ids, "metadata": {}}


# --- the surface and the overlap rule


@pytest.mark.parametrize(
    ("claim", "answer"),
    [
        ("Marie Curie was born in Warsaw.", "supported"),
        # A number, a name and a negation that the chunk does not say.
        ("Marie Curie was born in 1868.", "refuted"),
        ("Marie Curie was born in Berlin.", "refuted"),
        ("Marie Curie was not born in Warsaw.", "refuted"),
    ],
)
def test_the_overlap_rule_cites_the_nearest_chunk_and_refutes_what_it_does_not_say(claim, answer):
    found, citations, confidence = overlap_rule(claim_sample(claim, [PARIS, WARSAW]))
    assert (found, citations) == (answer, [1]) and confidence > 0


def test_the_overlap_rule_refuses_a_claim_that_names_no_title():
    assert overlap_rule(claim_sample("Pierre taught physics.", [PARIS, WARSAW])) == (REFUSAL, [], 0.0)


def test_the_overlap_rule_answers_questions_from_the_chunk_whose_title_they_name(sample, unanswerable):
    # Chunks 0 and 2 say "Marie Curie" and born or birthplace; the title of chunk 0 is named.
    answer, citations, _ = overlap_rule(sample)
    assert answer != REFUSAL and citations == [0]
    assert overlap_rule(unanswerable) == (REFUSAL, [], 0.0)
    asked = {**sample, "question": "Was Marie Curie born in Warsaw?"}
    assert overlap_rule(asked)[0] == "yes"
    assert overlap_rule({**sample, "question": "Was Marie Curie born in Berlin?"})[0] == "no"


def test_a_choice_and_an_open_question_ask_for_no_verdict(sample):
    assert not asks_verdict(sample)
    assert not asks_verdict({**sample, "question": "Is Curie a physicist or a chemist?"})
    assert asks_verdict({**sample, "question": "Is Curie a physicist?"})


def test_a_title_is_named_without_its_parenthesis_and_as_whole_words():
    claim = "Ugly is a film of 2013."
    chunks = [("Ugly (film)", "A film."), ("Ugly Betty", "A series."), ("Ug", "A word."), ("The", "A word.")]
    surface = surface_of(claim_sample(claim, chunks))
    assert [chunk.is_named for chunk in surface.chunks] == [1, 0, 0, 0]
    assert nearest_chunk(surface) == 0 and not says_everything(surface.chunks[0])


def test_title_overlap_looks_at_the_chunks_of_a_named_title_alone():
    # The second chunk shares more words with the claim, but is about someone else.
    other = ("Pierre Curie", "Pierre Curie, husband of Marie Curie, was born in Warsaw.")
    claim = claim_sample("Marie Curie, wife of Pierre, was born in Warsaw.", [WARSAW, other])
    assert overlap_rule(claim)[1] == [1] and title_overlap(claim)[1] == [0]
    assert title_overlap(claim_sample("Pierre taught physics.", [PARIS]))[0] == REFUSAL


# --- thresholds


def test_a_source_in_which_a_rule_loses_against_refusing_is_refused(sample):
    def always_wrong(sample):
        return "wrong", [0], 0.5

    right = {**sample, "source": "good", "answer": "wrong", "answer_aliases": ["wrong"]}
    for is_all_or_none in (True, False):
        rule = tuned_by_source(always_wrong, [sample, right], is_all_or_none)
        assert rule(sample)[0] == REFUSAL and rule(right)[0] == "wrong"
        # An unknown source is treated as the questions of its kind: here one of two is right.
        assert rule({**sample, "source": "new"})[0] == "wrong"


def test_only_a_rule_with_a_threshold_refuses_part_of_a_source(sample):
    def sure_of_the_first(sample):
        return "Warsaw", [0], 0.9 if sample["id"] == "popqa:1" else 0.3

    wrong = {**sample, "id": "popqa:2", "answer": "Paris", "answer_aliases": ["Paris"]}
    samples = [sample, wrong, {**sample, "id": "popqa:1"}]
    assert tuned_by_source(sure_of_the_first, samples)(wrong)[0] == REFUSAL
    assert tuned_by_source(sure_of_the_first, samples, is_all_or_none=True)(wrong)[0] == "Warsaw"


# --- no rule sees the gold


def test_predictions_of_rules_do_not_depend_on_the_gold_of_the_test_file(samples):
    test = samples[:40]
    rest = samples[40:]
    rows = baseline_predictions(test, rest, rest[:40])
    assert {row["model"] for row in rows} == set(WITHOUT_MODEL)
    assert rows == baseline_predictions([hide_gold(sample) for sample in test], rest, rest[:40])


# --- the fitted baselines


def test_the_surface_model_solves_planted_data_and_the_claim_alone_does_not():
    train = planted(300, False, 1)
    test = planted(200, False, 2)
    right = {"surface_model": 0, "claim_only": 0}
    for name, answers in (("surface_model", surface_answers), ("claim_only", claim_answers)):
        for sample, (answer, citations, _) in zip(test, answers(test, train)):
            assert bool(citations) == (answer != REFUSAL)
            right[name] += answer == sample["answer"] and set(sample["support_spans"]) <= set(citations)
    assert right["surface_model"] > 180 and right["claim_only"] < 120


def test_the_claim_alone_gives_no_span(sample):
    claims = planted(60, False, 1)
    answers = claim_answers([sample, *claims], claims)
    assert answers[0] == (REFUSAL, [], 0.0)
    # Most of the claims of train are answerable here, so it answers most, and cites every chunk.
    mostly = claim_answers(claims, [claim for claim in claims if claim["answerable"]])
    assert all(answer in ("supported", "refuted") and cited == [0, 1, 2] for answer, cited, _ in mostly)


def test_without_train_beside_the_test_file_the_fitted_baselines_are_left_out(data_home, tmp_path, capsys):
    (tmp_path / "test.jsonl").write_text((data_home / "data/processed/test.jsonl").read_text())
    train, val = read_tuning(tmp_path / "test.jsonl")
    assert (train, val) == ([], []) and "surface_model and claim_only left out" in capsys.readouterr().err
    models = {row["model"] for row in baseline_predictions(read_samples(tmp_path / "test.jsonl"), [], [])}
    assert models == set(WITHOUT_MODEL) - {"surface_model", "claim_only"}
    # A test file that is itself called train.jsonl is no data to fit on.
    assert read_tuning(data_home / "data/processed/train.jsonl")[0] == []


def test_the_terminal_and_the_page_show_the_lead_over_the_strongest_baseline(samples, tmp_path):
    test = samples[:40]
    sft = [{"id": s["id"], "model": "sft", "completion": render_completion(REFUSAL, [], 0.0)} for s in test]
    rows = [*sft, *baseline_predictions(test, samples[40:], [])]
    results, parsed = score_all(rows, test, seed=1)
    net = {name: results["baselines"][name]["net_score"] for name in WITHOUT_MODEL}
    assert set(results["deltas_to"]) == set(WITHOUT_MODEL)
    strongest = strongest_baseline(results)
    assert net[strongest] == max(net.values())
    assert f"sft against {strongest}" in results_text(results)
    assert f"{strongest} by source" in results_text(results)

    run = {"settings": {"predictions": "p", "test_data": "t"}, "git_commit": None, "started": "now"}
    results["run"] = {**run, "gold_cut": 0, "inputs": {}, "packages": {}}
    answered = answered_samples(test, {"sft": parsed["sft"]}, sft)
    page, _ = render(Outputs(tmp_path, {}, []), Evaluation(tmp_path / "r.json", results, answered))
    # In view, before what is folded away.
    assert page.index(f"sft against {strongest}") < page.index("more</summary>")
    assert all(f"sft against {name}" in page for name in WITHOUT_MODEL)


# --- the audit


def test_balanced_accuracy_cut_and_credit_by_hand():
    true = np.array([True, True, True, False])
    # Two of three positives and the one negative are told right.
    assert balanced_accuracy(np.array([True, True, False, False]), true) == pytest.approx((2 / 3 + 1) / 2)
    assert best_cut(np.array([0.9, 0.8, 0.4, 0.3]), true) == Cut(0.4, True)
    # What is short can be the sign, too: everything under 5 is positive.
    cut = best_cut(np.array([1.0, 2.0, 3.0, 5.0]), true)
    assert cut == Cut(5.0, False) and cut.says(np.array([4.0, 6.0])).tolist() == [True, False]
    assert pick_credit(np.array([1.0, 3.0, 2.0]), [1]) == 1.0
    # Two equal candidates, one of them support.
    assert pick_credit(np.array([3.0, 3.0, 2.0]), [1, 2]) == 0.5


def planted(n: int, is_honest: bool, seed: int) -> list[dict]:
    """Claims about persons of an invented town: by shortcut, or solvable by reading alone.

    By shortcut only an answerable sample shows a chunk of its person, and what is not said is refuted. In the
    honest data every chunk is about the person with the claim's words, and the gold is drawn at random.
    """
    rng = random.Random(seed)
    names = [f"{first}{last}" for first in ("Al", "Be", "Ca", "Do") for last in ("ron", "tan", "vik", "zor")]
    places = ["Avenir", "Boria", "Cadiz", "Delta"]
    samples = []
    for i in range(n):
        name, other = rng.sample(names, 2)
        place, elsewhere = rng.sample(places, 2)
        is_answerable = rng.random() < 0.5
        is_supported = rng.random() < 0.5
        claim = f"In town {name} lived in {place}."
        said = place if is_supported or is_honest else elsewhere
        own = name if is_answerable or is_honest else other
        third = own if is_honest else other
        chunks = [(own, f"{own} lived in {said}."), (third, f"{third} lived."), (third, f"{third} lived.")]
        order = rng.sample(range(3), 3)
        sample = claim_sample(claim, [chunks[k] for k in order])
        support = [rng.randrange(3) if is_honest else order.index(0)]
        answer = {True: "supported", False: "refuted"}[is_supported]
        gold = {"answer": answer if is_answerable else REFUSAL, "answerable": is_answerable}
        samples.append({**sample, "id": f"fever:{i}", **gold, "support_spans": support * is_answerable})
    return samples


def test_planted_shortcuts_are_above_their_limits_and_honest_data_is_not():
    easy = measure_shortcuts({"train": planted(300, False, 1), "val": [], "test": planted(200, False, 2)})
    figures = easy["by_source"]["fever"]
    assert easy["split"] == "test" and figures == easy["by_source"]["all"]
    expected = {"score": 1.0, "chance": 0.5, "limit": 0.7, "n": 200, "above": True}
    assert figures["answerability"]["title_match"] == expected
    assert figures["support"]["overlap"]["score"] == 1.0
    assert figures["support"]["overlap"]["chance"] == pytest.approx(1 / 3, abs=1e-4)
    assert figures["verdict"]["unstated"]["score"] == 1.0
    for task in ("answerability", "support", "verdict"):
        assert figures[task]["surface_model"]["score"] > 0.95, task
    assert not figures["answerability"]["question_alone"]["above"]
    lines = shortcut_warnings(easy)
    # One line per source, the whole set first, with every probe above its limit.
    assert [line.split(": ")[1] for line in lines] == ["all", "fever"]
    assert lines[1].startswith(
        "shortcut: fever: tells answerability by title_match 1.00 (limit 0.70), overlap "
    )
    assert "; verdict by unstated 1.00 (limit 0.80)" in lines[1]

    honest = measure_shortcuts({"train": planted(300, True, 1), "val": [], "test": planted(200, True, 2)})
    assert shortcut_warnings(honest) == []


def test_too_few_samples_and_one_class_have_no_figures():
    train = planted(200, False, 1)
    found = measure_shortcuts({"train": train, "val": planted(90, False, 2), "test": planted(30, False, 3)})
    # Of 30 test samples nothing is measured; val has enough.
    assert found["split"] == "val"
    assert measure_shortcuts({"train": train, "val": [], "test": planted(30, False, 3)})["split"] is None
    # One sample of another source is too few, and counts among all.
    odd = {**planted(1, False, 4)[0], "id": "own:1", "source": "own"}
    found = measure_shortcuts({"train": train, "val": [], "test": [*planted(90, False, 2), odd]})
    assert found["by_source"]["own"] == {"answerability": None, "support": None, "verdict": None}
    assert found["by_source"]["all"]["answerability"]["overlap"]["n"] == 91


def test_train_of_one_class_is_measured_all_the_same():
    train = [sample for sample in planted(200, False, 1) if sample["answerable"]]
    figures = measure_shortcuts({"train": train, "val": [], "test": planted(90, False, 2)})
    assert figures["by_source"]["fever"]["answerability"]["surface_model"]["score"] == 0.5


def test_a_strict_build_with_a_shortcut_fails_and_leaves_its_audit(tmp_path):
    flags = "--sample --data-dir data --limit 60 --split 0.4,0.2,0.4"
    failed = run_stage("build_data.py", *flags.split(), "--strict-shortcuts", home=tmp_path)
    assert failed.returncode == 3 and "above the limit" in failed.stderr
    processed = tmp_path / "data/processed"
    assert (processed / "audit.json").is_file() and not (processed / "test.jsonl").exists()

    # The same build without the flag goes on, and warns; the flag is no setting of the samples.
    done = run_stage("build_data.py", *flags.split(), home=tmp_path)
    assert done.returncode == 0 and "shortcut: all: tells" in done.stderr
    assert (processed / "test.jsonl").is_file()
    again = run_stage("build_data.py", *flags.split(), "--strict-shortcuts", home=tmp_path)
    assert again.returncode == 3


def test_every_probe_has_a_limit_that_the_docs_state():
    assert {(name, probe) for name, task in TASKS.items() for probe in task.probes} == set(LIMITS)
    text = (Path(__file__).resolve().parent.parent / "docs/data.md").read_text()
    table = text.split("| probe |")[1].split("\n\n")[0]
    stated = {}
    for line in table.splitlines()[2:]:
        probe, _, *limits = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
        for name, limit in zip(TASKS, limits):
            if limit:
                stated[name, probe] = float(limit)
    assert stated == LIMITS
