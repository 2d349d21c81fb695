"""Kinds of pairs, made rejections, pairs matched in form, and which pairs are kept."""

import functools
import random
from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import make_prefs
from evidence.queries import CLAIM_QUESTION
from make_prefs import choose_pairs
from preferences.contrasts import CONTRASTS, contrasts
from preferences.judge_report import judge_report
from preferences.judges import JUDGES
from preferences.kinds import KINDS, form, match_forms, meaning, pair_kind
from preferences.pairing import Pairing, collect_pairs, prompt_outcomes
from preferences.pairs import check_preferences, style_check
from preferences.verifier import verify
from preferences.wrong_answers import other_answers, unfounded_answers
from utils.completions import gold_completion, parse_completion, render_completion
from utils.errors import DataError, UsageError
from utils.text import REFUSAL

REFUSE = render_completion(REFUSAL, [], 0.0)
PLAIN = Pairing(0.1, "lite", 0, False, 1.0, 42)


def parsed(text):
    return parse_completion(text, 4)


def answer(text, *citations):
    return render_completion(text, list(citations), 0.9)


@pytest.mark.parametrize(
    "chosen, rejected, kind",
    [
        (answer("Warsaw", 0), answer("Paris", 0), "other answer"),
        (answer("Warsaw", 0), answer("the warsaw.", 1), "other citations"),
        (answer("Warsaw", 0), render_completion("the warsaw", [0], 1.0), "other confidence"),
        (answer("Warsaw", 0), REFUSE, "answer over refusal"),
        (REFUSE, answer("Warsaw", 0), "refusal over answer"),
        (REFUSE, "I do not know", "over unparsable"),
        (answer("Warsaw", 0), "Warsaw", "over unparsable"),
    ],
)
def test_a_pair_names_what_its_sides_differ_in(chosen, rejected, kind):
    assert kind in KINDS and pair_kind(parsed(chosen), parsed(rejected)) == kind


def test_candidates_with_the_same_answer_and_citations_mean_the_same():
    assert meaning(parsed(answer("Warsaw", 0, 2))) == meaning(
        parsed(render_completion("warsaw", [2, 0], 0.7))
    )
    assert meaning(parsed(answer("Warsaw", 0))) != meaning(parsed(answer("Warsaw", 1)))
    assert meaning(parsed(REFUSE)) == meaning(parsed(render_completion(REFUSAL, [1], 0.2)))
    assert meaning(parsed("prose")) is None


def test_gold_is_chosen_over_the_likeliest_mistake(sample):
    """`sample`: see tests/conftest.py; one candidate is enough, and one that is right makes no pair."""
    right = gold_completion(sample, [0, 1, 2])
    jobs = []
    said = [
        [(answer("Paris", 0), -0.9), (REFUSE, -0.2), (answer("Lyon", 0), -0.5)],
        [(answer("Paris", 0), -0.1), (right, -0.3)],
        [(answer("Paris", 0), -0.4)],
        [(right, -0.1)],
    ]
    for i, candidates in enumerate(said):
        rows = [
            {"completion": text, "logp": logp, "shown": [0, 1, 2], "model": "sft"}
            for text, logp in candidates
        ]
        jobs.append(({**sample, "id": f"q{i}"}, rows))
    pairing = Pairing(0.1, "lite", 0, False, 1.0, 42, gold_chosen=True)
    rows, drops, _ = collect_pairs(
        jobs, {}, JUDGES["verifier"], pairing, choose_pairs, lambda judged: "prompt"
    )
    assert [row["id"] for row in rows] == ["q0#3-1", "q1#2-0", "q2#1-0"]
    assert drops == {"no candidate is worse than gold": 1}
    for row in rows:
        assert row["chosen"][0]["content"] == right and row["decided_by"] == row["chosen_model"] == "gold"
        assert row["judge"]["checks_chosen"]["answer"] == 1 and row["margin"] >= 0.5
    with pytest.raises(UsageError, match="--gold-chosen: gold decides its pairs, not --judge llm"):
        make_prefs.read_arguments(["--phase", "judge", "--gold-chosen", "--judge-model", "tiny"])
    hidden = [(jobs[2][0], [{**jobs[2][1][0], "shown": [1]}])]
    _, drops, _ = collect_pairs(
        hidden, {}, JUDGES["verifier"], pairing, choose_pairs, lambda judged: "prompt"
    )
    assert drops == {"support cut to fit": 1}


def test_form_tells_nothing_of_matched_pairs():
    rng = random.Random(1)
    forms = []

    def side(longest: int, more_citations: int, refuses: float) -> tuple[int, ...]:
        if rng.random() < refuses:
            return (75, 23, 0, 0, 1, 1)
        n_cited = rng.choice([1, 1, 1 + more_citations])
        confidence = rng.choice([70, 90])
        n_answer = rng.randint(3, longest)
        # Each citation is a figure, behind the first one with comma and space.
        return (47 + n_answer + 3 * n_cited, n_answer, n_cited, confidence, 0, 1)

    # The chosen side tends to be shorter, to cite less, and to refuse less.
    for _ in range(600):
        forms.append((side(20, 0, 0.2), side(40, 1, 0.4)))
    kept = match_forms(forms)
    assert kept == sorted(kept) and len(kept) > 60

    def style_auc(places):
        pairs = np.array([forms[i] for i in places], dtype=float)
        x = pairs.reshape(-1, 6)
        y = np.tile([1, 0], len(places))
        return roc_auc_score(y, LogisticRegression(max_iter=1000).fit(x, y).decision_function(x))

    assert style_auc(range(600)) > 0.65 and abs(style_auc(kept) - 0.5) < 0.05
    assert match_forms([]) == []


def test_the_form_of_a_completion():
    text = answer("Warsaw", 0, 2)
    assert form(text, parsed(text)) == (len(text), 6, 2, 90, 0, 1)
    assert form("prose", parsed("prose")) == (5, 0, 0, 0, 0, 0)


def test_every_contrast_is_worse_than_gold_or_says_why_not(sample, unanswerable):
    shown = [0, 1, 2, 3]
    sample = {**sample, "evidence_chunks": [dict(chunk) for chunk in sample["evidence_chunks"]]}
    sample["evidence_chunks"][1]["text"] += " It was built by Anna Kowalska in Gdansk."
    made = contrasts(sample, shown, random.Random(0), ["Helsinki"]) | contrasts(
        unanswerable, [0, 1], random.Random(0), []
    )
    assert set(made) <= set(CONTRASTS)
    wanted = {"refused", "wrong answer", "unsupported answer", "answered", "extra citation", "over-confident"}
    assert wanted <= set(made)
    _, gold_score = verify({"completion": gold_completion(sample, shown), "shown": shown}, sample)
    assert gold_score == 1.0
    for name, text in made.items():
        of = unanswerable if name == "answered" else sample
        best = 0.75 if name == "answered" else 1.0
        _, score = verify({"completion": text, "shown": shown}, of)
        # These have the outcome of the gold completion, and are worse in form alone.
        assert score < best or name in ("over-confident", "padded", "copied chunk"), (name, text)
        assert parse_completion(text, 4).answer


def test_an_unsupported_answer_is_in_no_shown_chunk(sample):
    shown = list(range(len(sample["evidence_chunks"])))
    held = sample["evidence_chunks"][1]["text"].split()[0]
    made = contrasts(sample, shown, random.Random(0), [held, sample["answer"], "Helsinki"])
    assert parse_completion(made["unsupported answer"], len(shown)).answer == "Helsinki"
    assert "unsupported answer" not in contrasts(sample, shown, random.Random(0), [held])


NASA = "National Aeronautics and Space Administration"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (NASA, f"It was the {NASA} (NASA). The ESA helped."),
        ("NASA", f"It was the {NASA} (NASA). The ESA helped."),
        ("IBM", "He left International Business Machines. The ESA helped."),
    ],
)
def test_initials_are_no_other_answer(answer, text, sample):
    chunks = [{"title": "ESA", "text": text}]
    row = {**sample, "question": "Who did it?", "answer": answer, "answer_aliases": [answer]}
    found = other_answers({**row, "evidence_chunks": chunks})
    assert set(found) <= {"ESA", "The ESA"}


def test_an_unfounded_answer_is_of_the_kind_that_the_question_asks_for(unanswerable):
    def made(metadata: dict, question: str = "Where was she born?") -> str:
        row = {**unanswerable, "metadata": metadata, "question": question}
        text = contrasts(row, [0, 1], random.Random(0), [])["answered"]
        return parse_completion(text, 2).answer

    claim = CLAIM_QUESTION.format(claim="Radium glows.")
    assert made({}, claim) in ("supported", "refuted")
    assert made({"gold_aliases": ["yes"]}) in ("yes", "no")
    assert made({"gold_aliases": ["Warsaw"]}) in ("Paris", "He")


def test_wrong_answers_are_of_the_kind_of_the_right_one(sample):
    chunks = [{"title": "A mill", "text": "Built in 1904 and sold in 1911 for 350 crowns by Anna Berg."}]
    number = {**sample, "answer": "1904", "answer_aliases": ["1904"], "evidence_chunks": chunks}
    assert other_answers(number) == ["1911"]
    verdict = {**sample, "answer": "refuted", "answer_aliases": ["refuted"]}
    assert other_answers(verdict) == ["supported"]
    name = {**number, "answer": "Berg", "answer_aliases": ["Berg", "Anna Berg"], "question": "Who sold it?"}
    assert all("Berg" not in one for one in other_answers(name))


@pytest.mark.parametrize(
    ("question", "gold", "text", "others"),
    [
        # Not "Germany. It", and no word that only begins a sentence.
        (
            "Which country is it in?",
            "Poland",
            "It is in Germany. It grew. Built by Prussia.",
            ["Germany", "Prussia"],
        ),
        ("Who wrote it?", "Ann Lee", "However Bo Dahl did. By the Lund Press of Oslo.", ["Bo Dahl"]),
        # No name for an occupation, no count for a year, no year for a decade.
        ("What is her occupation?", "politician", "She was born in Rangapuram.", []),
        ("When was it built?", "2015", "It cost 7,500 crowns in 2011.", ["2011"]),
        ("When was it built?", "the 1830s", "In 2017, not in the 1850s.", ["the 1850s"]),
        # The gold answer in another spelling.
        (
            "Who wrote it?",
            "George Frideric Handel",
            "By Georg Friedrich H\u00e4ndel and Carl Holm.",
            ["Carl Holm"],
        ),
    ],
)
def test_wrong_answers_are_whole_and_of_the_type_of_the_right_one(question, gold, text, others, sample):
    chunks = [{"title": "The page (2)", "text": text}]
    row = {
        **sample,
        "question": question,
        "answer": gold,
        "answer_aliases": [gold],
        "evidence_chunks": chunks,
    }
    assert other_answers({**row, "metadata": {}}) == others


def job(sample, *texts):
    shown = list(range(len(sample["evidence_chunks"])))
    candidates = []
    for n, text in enumerate(texts):
        row = {"id": sample["id"], "completion": text, "shown": shown}
        candidates.append({**row, "model": "sft", "n": n})
    return sample, candidates


def collect(jobs, pairing):
    judgements = {row["id"]: row for row in JUDGES["verifier"].judge(jobs, None)}
    choose = functools.partial(choose_pairs, min_margin=pairing.min_margin)
    return collect_pairs(jobs, judgements, JUDGES["verifier"], pairing, choose, lambda judged: "prompt")


def test_made_pairs_stand_beside_the_models_own(sample, unanswerable):
    jobs = [job(sample, answer("Warsaw", 0), answer("Paris", 0)), job(unanswerable, REFUSE)]
    rows, drops, _ = collect(jobs, PLAIN)
    assert [row["kind"] for row in rows] == ["other answer"] and drops == {}
    pairing = Pairing(0.1, "rich", 3, False, 1.0, 42)
    rows, _, _ = collect(jobs, pairing)
    made = [row for row in rows if "made" in row]
    assert len(made) == 4 and made == [row for row in collect(jobs, pairing)[0] if "made" in row]
    assert {row["chosen_model"] for row in made} == {"sft"} and {row["rejected_model"] for row in made} == {
        "made"
    }
    assert all(row["margin"] >= 0.125 and row["decided_by"] == "made" for row in made)
    assert made[-1]["made"] == "answered" and made[-1]["kind"] == "refusal over answer"
    # Without a right candidate, the gold completion is chosen.
    rows, _, _ = collect([job(sample, answer("Paris", 0))], pairing)
    assert {row["chosen_model"] for row in rows} == {"gold"}
    assert len({row["id"] for row in rows}) == len(rows)


def over_confident_pairs(sample, *texts):
    rows, _, _ = collect([job(sample, *texts)], Pairing(0.1, "rich", 20, False, 1.0, 42))
    return [row for row in rows if row.get("made") == "over-confident"]


def test_an_over_confident_side_differs_in_its_confidence_alone(sample):
    [row] = over_confident_pairs(sample, answer("the Warsaw", 2))
    assert row["kind"] == "other confidence" and row["margin"] == 0.125
    assert row["rejected"][0]["content"] == render_completion("the Warsaw", [2], 1.0)
    # No confidence is above the chosen side's own.
    assert not over_confident_pairs(sample, render_completion("the Warsaw", [0], 1.0))


def test_what_cannot_be_parsed_is_never_chosen(sample):
    jobs = [job(sample, answer("Warsaw", 0), "Warsaw, as far as I know")]
    [row] = JUDGES["verifier"].judge(jobs, None)
    # A judge that sees no gold may like the prose more.
    judgements = {sample["id"]: {**row, "llm": [0.2, 0.8]}}
    choose = functools.partial(choose_pairs, min_margin=0.1)
    rows, drops, _ = collect_pairs(jobs, judgements, JUDGES["llm"], PLAIN, choose, lambda judged: "prompt")
    assert rows == [] and drops == {"the best is unparsable": 1}


def test_prompts_are_counted_by_the_outcomes_of_their_candidates(sample, unanswerable):
    texts = {
        "right": (answer("Warsaw", 0), answer("Warsaw", 1)),
        "wrong": (answer("Paris", 0), REFUSE, "prose"),
        "mixed": (answer("Warsaw", 0), answer("Paris", 0)),
        "one": (answer("Paris", 0),),
    }
    jobs = [job({**sample, "id": name}, *sides) for name, sides in texts.items()] + [
        job(unanswerable, REFUSE)
    ]
    compared = [one for one in jobs if len(one[1]) > 1]
    judgements = {row["id"]: row for row in JUDGES["verifier"].judge(compared, None)}
    assert prompt_outcomes(jobs, judgements) == {"all right": 2, "all wrong": 2, "mixed": 1}


def test_unparsable_sides_are_at_most_a_share(sample):
    jobs = []
    for i in range(10):
        own = {**sample, "id": f"popqa:{i}"}
        jobs.append(job(own, answer("Warsaw", 0), answer("Paris", 0), f"prose {i}"))
    rows, _, left_out = collect(jobs, Pairing(0.1, "lite", 0, False, 0.2, 42))
    kinds = Counter(row["kind"] for row in rows)
    assert kinds == {"other answer": 10, "over unparsable": 2}
    assert left_out == {"over --max-unparsable": 8}
    assert len(collect(jobs, PLAIN)[0]) == 20


def test_style_alone_is_measured_on_held_out_groups(sample):
    rows = []
    for i in range(40):
        chosen = answer("Warsaw", 0)
        rejected = answer("Warsaw, which is the capital of Poland and lies on a river", 0)
        row = {**sample, "id": f"popqa:{i}", "group": f"g{i}"}
        sides = (chosen, rejected) if i % 4 else (rejected, chosen)
        rows.append(row | dict(zip(("chosen", "rejected"), ([{"content": text}] for text in sides))))
    assert style_check(rows, 42)["accuracy"] == pytest.approx(0.75)
    assert style_check(rows[:10], 42) is None


def test_the_report_on_a_judge_counts_agreement_and_biases(sample):
    jobs = []
    judgements = {}
    for i in range(30):
        own = {**sample, "id": f"popqa:{i}", "group": f"g{i}"}
        # The right answer is the shorter one, and the judge prefers the label A a little.
        jobs.append(job(own, answer("Warsaw", 0), answer("Paris in France", 0)))
        [row] = JUDGES["verifier"].judge(jobs[-1:], None)
        is_right = i % 5 > 0
        row["comparisons"] = [[0, 1, 0.9, 0.3] if is_right else [0, 1, 0.4, 0.8]]
        judgements[own["id"]] = row
    report = judge_report(jobs, judgements, 42)
    assert report["verifier_agreement"]["mean"] == pytest.approx(0.8)
    # The verifier always names the first one, so chance agreement is undefined.
    assert report["verifier_agreement"]["kappa"] is None
    assert report["by_kind"].keys() == {"other answer"}
    assert report["p_label_a"]["mean"] == pytest.approx(0.6)
    assert report["longer_wins"]["mean"] == pytest.approx(0.2)
    assert report["longer_wins_verifier"]["mean"] == 0.0
    low, high = report["longer_wins"]["ci95"]
    assert low < 0.2 < high
    assert judge_report(jobs, {}, 42) is None


@pytest.mark.parametrize("metadata", [None, {}])
def test_a_pair_may_have_no_metadata(metadata, samples, tmp_path):
    row = {**samples[0], "sample_id": samples[0]["id"], "metadata": metadata}
    assert check_preferences(tmp_path / "preferences_a.jsonl", [row], False) == []
    assert unfounded_answers(row) == unfounded_answers({**row, "metadata": {}})
    assert other_answers(row) == other_answers({**row, "metadata": {}})


@pytest.mark.parametrize("metadata", ["text", 1, ["a"]])
def test_metadata_of_another_kind_are_a_malformed_row(metadata, samples, tmp_path):
    row = {**samples[0], "sample_id": samples[0]["id"], "metadata": metadata}
    with pytest.raises(DataError, match=f"pair {row['id']}: field 'metadata' must be dict or null"):
        check_preferences(tmp_path / "preferences_a.jsonl", [row], False)
