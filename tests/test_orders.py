"""Several orders of the evidence: which they are, what they agree on, and an evaluation that takes it."""

import pytest

import evaluate_sft_fast_robust
from evaluation.model_runs import with_agreed
from evaluation.predictions import asked_settings
from evaluation.results import ONE_ORDER
from evidence.orders import agreed, chunk_orders, vote_of
from utils.completions import parse_completion, render_completion
from utils.errors import UsageError
from utils.jsonl import read_json, read_jsonl
from utils.text import REFUSAL


def row(completion: str, shown: list[int], probability: float) -> dict:
    return {"id": "a", "completion": completion, "shown": shown, "probability": probability}


def test_the_orders_begin_at_even_distances():
    assert chunk_orders(3, 3) == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    assert chunk_orders(6, 3) == [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 0, 1], [4, 5, 0, 1, 2, 3]]
    # No order comes twice.
    assert chunk_orders(2, 3) == [[0, 1], [1, 0]]
    assert chunk_orders(3, 8) == chunk_orders(3, 3)
    assert chunk_orders(1, 3) == [[0]]
    assert chunk_orders(0, 2) == [[]]


def test_each_order_has_a_vote_for_its_answer_and_then_for_its_citations():
    rows = [
        row(render_completion("Lyon", [0], 0.9), [0, 1, 2], 0.8),
        # The same chunk 0, as the third of its prompt, and another spelling.
        row(render_completion("the Paris", [2], 0.9), [1, 2, 0], 0.4),
        row(render_completion("Paris", [1], 0.7), [2, 0, 1], 0.2),
    ]
    found = agreed(rows)
    # Two of three say Paris, and both cite chunk 0.
    assert found == rows[1] | {"probability": pytest.approx(0.6 / 3), "n_agree": 2}
    # Of two citations with a vote each the likelier one.
    rows[2] = row(render_completion("Paris", [0], 0.7), [2, 0, 1], 0.45)
    assert agreed(rows)["completion"] == rows[2]["completion"]


def test_a_vote_that_a_fitted_bias_decided_counts_like_another():
    refusal = render_completion(REFUSAL, [], 0.0)
    rows = [row(refusal, [0, 1, 2], 0.2), row(refusal, [1, 2, 0], 0.2)]
    rows.append(row(render_completion("Paris", [0], 0.9), [2, 0, 1], 0.9))
    assert agreed(rows)["completion"] == refusal


def test_refusals_are_answers_and_what_cannot_be_parsed_wins_against_nothing():
    refusal = render_completion(REFUSAL, [], 0.0)
    rows = [row(refusal, [0, 1], 0.4), row(render_completion("Lyon", [0], 0.9), [1, 0], 0.3)]
    assert agreed(rows)["completion"] == refusal
    assert agreed([row("no JSON", [0, 1], 1.0), row("none", [1, 0], 1.0), *rows])["completion"] == refusal
    assert agreed([row("no JSON", [0, 1], 0.2), row("none", [1, 0], 0.3)])["completion"] == "none"


def test_citations_that_were_not_shown_do_not_agree_with_each_other():
    rows = [row(render_completion("Paris", [3], 0.9), [0, 1, 2], 0.3)]
    rows.append(row(render_completion("Paris", [7], 0.9), [1, 2, 0], 0.3))
    rows.append(row(render_completion("Paris", [0], 0.9), [2, 0, 1], 0.1))
    assert agreed(rows)["completion"] == rows[2]["completion"]


def test_the_first_of_equals_wins():
    rows = [row(render_completion(answer, [0], 0.9), [0], 0.3) for answer in ("Lyon", "Paris")]
    assert agreed(rows)["completion"] == rows[0]["completion"]


def test_a_repeated_order_of_few_chunks_has_no_second_vote():
    lyon, paris = (render_completion(answer, [0], 0.9) for answer in ("Lyon", "Paris"))
    rows = [row(lyon, [0, 1], 0.4) | {"model": "sft"}, row(paris, [1, 0], 0.7) | {"model": "sft_order_1"}]
    rows.append(row(lyon, [0, 1], 0.4) | {"model": "sft_order_2"})
    found = {one["model"]: one for one in with_agreed(rows, 3)}
    assert found.keys() == {"sft", ONE_ORDER}
    assert found["sft"]["completion"] == paris and found[ONE_ORDER]["completion"] == lyon


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--orders", "3", "--predictions", "p.jsonl"], "instead of --predictions"),
        (["--orders", "3", "--best-of", "2", "--reward-model", "rm"], "each decide what is returned"),
        (["--orders", "3", "--wanted-precision", "0.9"], "from val answers of one order"),
        (["--orders", "9"], "from 2 to 8"),
    ],
)
def test_flags_that_contradict_orders(flags, message):
    with pytest.raises(UsageError, match=message):
        evaluate_sft_fast_robust.read_arguments(["--test-data", "t", "--model-path", "m", *flags])


def test_an_evaluation_agrees_over_orders_and_shows_the_first_beside_it(tiny_gemma_dir, home, capsys):
    flags = ["--model-path", str(tiny_gemma_dir), "--test-data", "data/processed/test.jsonl", "--limit", "6"]
    flags += ["--max-new-tokens", "12"]
    evaluate_sft_fast_robust.main([*flags, "--output", "one.json"])
    orders = [*flags, "--orders", "3", "--constrained", "--output", "three.json"]
    evaluate_sft_fast_robust.main(orders)
    said = " ".join(capsys.readouterr().out.split())
    assert "itself in one order of the evidence" in said and "sft against one_order" in said
    alone = {row["id"]: row for _, row in read_jsonl(home / "one_predictions.jsonl")}
    rows = [row for _, row in read_jsonl(home / "three_predictions.jsonl")]
    assert {row["model"] for row in rows} == {"sft", ONE_ORDER, "sft_constrained"}
    first = {row["id"]: row for row in rows if row["model"] == ONE_ORDER}
    assert first == {name: row | {"model": ONE_ORDER} for name, row in alone.items()}
    agreed_on = {row["id"]: row for row in rows if row["model"] == "sft"}
    assert agreed_on.keys() == first.keys()
    for name, found in agreed_on.items():
        assert sorted(found["shown"]) == sorted(first[name]["shown"])
    assert all(1 <= found["n_agree"] <= 3 for found in agreed_on.values())
    results = read_json(home / "three.json")
    assert ONE_ORDER in results["deltas_to"] and results["run"]["settings"]["orders"] == 3
    evaluate_sft_fast_robust.main(orders)
    assert "is complete with these settings" in capsys.readouterr().out
    with pytest.raises(UsageError, match="orders"):
        evaluate_sft_fast_robust.main([*flags, "--constrained", "--output", "three.json"])

    # Scored again, they are still what three orders agree on; of other rows nobody knows.
    score = ["--predictions", "three_predictions.jsonl", *flags[2:6], "--output", "again.json"]
    evaluate_sft_fast_robust.main(score)
    assert read_json(home / "again.json")["run"]["settings"]["orders"] == 3
    assert asked_settings(home / "three_predictions.jsonl", "plain")["decisions"] is None
    with pytest.raises(UsageError, match="--decisions fitted: three.json says .* plain decisions"):
        asked_settings(home / "three_predictions.jsonl", "fitted")
    edited = home / "three_predictions.jsonl"
    edited.write_text(edited.read_text() + "\n")
    for name in ("three_predictions.jsonl", "three.json", "missing_predictions.jsonl"):
        for flag in (None, "fitted"):
            assert asked_settings(home / name, flag) == {"orders": None, "decisions": flag}


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("-5", "5", False),
        ("1.5", "15", False),
        ("C++", "C#", False),
        ("yes", "supported", True),
        ("no", "Refuted", True),
        ("yes", "no", False),
        ("twenty-one", "21", True),
        ("Paris", "paris.", True),
        ("guilty", "not guilty", False),
    ],
)
def test_two_spellings_are_one_vote_and_two_numbers_are_two(one, other, is_same):
    votes = {vote_of(parse_completion(render_completion(text, [0], 0.9), 1)) for text in (one, other)}
    assert len(votes) == (1 if is_same else 2)
    assert vote_of(parse_completion("prose", 1)) is None
