"""Judges and the pair rule: checks against gold, a model asked in both orders, and what becomes a pair."""

import functools
import math

import pytest
import torch

from make_prefs import build_parser, choose_pairs
from models.distributed import Shards
from preferences.cache import find_cache
from preferences.cache_states import claim_cache, complete_cache, settle_cache
from preferences.completion_reader import CompletionReader
from preferences.jobs import read_candidates
from preferences.judges import JUDGES, judge_candidates
from preferences.label_share import describe_judge, label_share
from preferences.model_judge import (
    JudgeModel,
    compare_candidates,
    label_token_ids,
    order_averaged,
    orders_agree,
    preference_probabilities,
    win_scores,
)
from preferences.rows import format_tallies
from preferences.scored import ScoreModel, citation_scores, score_candidates
from preferences.segments import token_segments
from preferences.verifier import LEVELS, verify
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from utils.completions import parse_completion, render_completion
from utils.errors import DataError, StageError
from utils.jsonl import read_json, write_json, write_jsonl
from utils.text import REFUSAL
from utils.tokens import encode_completion

REFUSE = render_completion(REFUSAL, [], 0.0)


def checked(text, row):
    shown = list(range(len(row["evidence_chunks"])))
    return verify({"completion": text, "shown": shown}, row)


# The sample's support sets are [0] and [2]; chunks 1 and 3 are hard negatives, and there is no chunk 9.
@pytest.mark.parametrize(
    "answer, citations, level",
    [
        ("Warsaw", [0], "right and supported"),
        ("Warsaw", [0, 2], "right and supported"),
        ("Warsaw", [0, 1], "right, not supported"),
        ("Warsaw", [1], "right, not supported"),
        ("Warsaw", [], "right, not supported"),
        ("Warsaw", [9], "right, not supported"),
        (REFUSAL, [], "refusal of an answerable"),
        (REFUSAL, [0], "refusal of an answerable"),
        ("Paris", [0], "wrong"),
        ("Paris", [], "wrong"),
    ],
)
def test_the_verifier_orders_outcomes(answer, citations, level, sample):
    _, score = checked(render_completion(answer, citations, 0.9), sample)
    assert LEVELS[round(4 * score)] == level


def test_the_verifier_of_an_unanswerable_and_of_prose(sample, unanswerable):
    checks, score = checked(REFUSE, unanswerable)
    assert all(checks.values()) and score == 0.75
    # Valid, and cites nothing wrong; but it refuses wrongly, without an answer and without support.
    checks, _ = checked(REFUSE, sample)
    assert checks == {"format": 1, "refusal": 0, "answer": 0, "support": 0, "precision": 1}
    assert checked("I think Warsaw", sample)[1] == 0.0
    assert checked(render_completion("Warsaw", [0], 0.9), unanswerable)[1] == 0.25


def test_both_orders_are_averaged():
    # 0.8 as A and 0.6 for the other as A: (0.8 + 0.4) / 2.
    assert order_averaged(0.8, 0.6) == pytest.approx(0.6) and not orders_agree(0.8, 0.6)
    # A judge that always prefers A has no preference.
    assert order_averaged(0.9, 0.9) == pytest.approx(0.5)
    assert win_scores(3, {(0, 1): 0.9, (0, 2): 0.7, (1, 2): 0.4}) == pytest.approx([0.8, 0.25, 0.45])


def test_judge_labels_differ_and_probabilities_are_renormalised(make_model, tokenizer):
    a, b = label_token_ids(tokenizer)
    assert a and b and not set(a) & set(b)
    batches = preference_probabilities(make_model("llama"), tokenizer, [[2, 5, 6], [2, 7]], 2)
    found = [row for batch in batches for row in batch]
    assert all(0 < p < 1 for _, p, _ in found)
    # Random weights give every token about the same probability.
    assert all(0 < share < 0.1 for *_, share in found)


def as_candidates(*texts):
    return [
        {"completion": text, "shown": [0, 1, 2, 3], "model": "sft", "n": n} for n, text in enumerate(texts)
    ]


def test_a_model_compares_every_two_candidates_in_both_orders(make_model, tokenizer, sample):
    built = []

    def build(chunks, question, answer_a, answer_b):
        built.append(answer_a + answer_b)
        return [2, *(5 + ord(letter) % 7 for letter in answer_a + answer_b)]

    judge = JudgeModel(make_model("llama"), tokenizer, build, batch_size=2)
    found = compare_candidates(judge, [(sample, as_candidates("x", "y", "z"))])
    assert built == ["xy", "yx", "xz", "zx", "yz", "zy"]
    assert list(found[0].p_wins) == [(0, 1), (0, 2), (1, 2)] and 0 <= found[0].n_agree <= 3
    assert len(found[0].label_shares) == 6


def test_a_judge_that_does_not_answer_with_the_labels_is_stopped(make_model, tokenizer, sample, tmp_path):
    path = tmp_path / "judgements_x.jsonl"
    jobs = [(sample, as_candidates("x", "y"))]

    def open_judge(least):
        return JudgeModel(make_model("llama"), tokenizer, lambda *_: [2, 5, 6], 2, min_label_share=least)

    for _ in range(2):
        # The second time too: nothing of such a judge is kept.
        with pytest.raises(StageError, match="below --min-label-share 0.05") as caught:
            judge_candidates(jobs, JUDGES["llm"], lambda: open_judge(0.05), path, Shards())
        assert "\n" not in str(caught.value) and not path.is_file()
    rows = list(judge_candidates(jobs, JUDGES["llm"], lambda: open_judge(0.0), path, Shards()).values())
    share = label_share(rows)
    assert 0 < share < 0.05
    assert f"judge: {share:.1%} of the probability on the labels A and B" in describe_judge(rows)
    # Of the checks alone there is nothing to say, and judgements of an earlier version do not say the share.
    assert describe_judge([{"n_compared": 0}]) is None
    assert "unknown share" in describe_judge([{"n_compared": 4, "agree": 3}])


def test_a_citation_is_worth_what_it_does_to_the_likelihood_of_the_answer(make_model, tokenizer, sample):
    reading = {"eval_batch_size": 2, "max_seq_length": 1500, "template": "default"}
    build = functools.partial(PromptBuilder, template=SFT_TEMPLATES["default"])
    builder = build(tokenizer, max_tokens=1500)
    model = make_model("llama")
    reader = CompletionReader(model, tokenizer, builder, reading)
    texts = [render_completion("Warsaw", [0, 2], 0.9), REFUSE, "prose"]
    chunks = sample["evidence_chunks"]
    rows = [
        {"id": "q", "question": sample["question"], "evidence_chunks": chunks, "completion": text}
        for text in texts
    ]
    effects = reader.citation_effects(rows)
    assert effects[2] is None

    # By hand: the answer behind the cited chunks alone, and behind the others.
    def mean_logp(shown: list[int]) -> float:
        prompt = builder.build({**rows[0], "evidence_chunks": [chunks[i] for i in shown]}).ids
        completion = encode_completion(tokenizer, texts[0])
        of_answer = [k for k, name in enumerate(token_segments(tokenizer, completion)) if name == "answer"]
        logps = model(torch.tensor([prompt + completion])).logits[0].log_softmax(-1)
        at = len(prompt) - 1
        return sum(logps[at + k, completion[k]].item() for k in of_answer) / len(of_answer)

    assert effects[0] == pytest.approx(mean_logp([0, 2]) - mean_logp([1, 3]), abs=1e-3)
    scores = citation_scores(rows, effects)
    assert scores[0] == pytest.approx(1 / (1 + math.exp(-effects[0]))) and scores[1:] == [0.5, 0.0]


def test_candidates_are_scored_in_portions_that_show_progress(sample):
    told: list[int] = []
    model = ScoreModel(lambda rows: [float(row["completion"]) for row in rows], told.append)
    jobs = []
    for i in range(20):
        candidates = [{"completion": str(i + k), "shown": [0]} for k in range(2)]
        jobs.append((sample | {"id": str(i)}, candidates))
    assert score_candidates(model, jobs) == [[i, i + 1] for i in range(20)]
    assert len(told) > 1 and sum(told) == 40


@pytest.mark.parametrize(
    "verifier, llm, kind, expected",
    [
        ([1.0, 0.4, 0.4], None, "verifier", [(0, 1), (0, 2)]),
        ([0.8, 0.75], None, "verifier", []),
        ([0.0, 1.0], None, "verifier", [(1, 0)]),
        ([0.6, 0.6], [0.9, 0.1], "hybrid", [(0, 1)]),
        ([0.6, 0.6], None, "verifier", []),
        ([1.0, 0.0], [0.1, 0.9], "llm", [(1, 0)]),
    ],
)
def test_the_pair_rule(verifier, llm, kind, expected):
    scores, _ = JUDGES[kind].decide({"verifier": verifier, "llm": llm})
    pairs, reason = choose_pairs(scores, 0.12)
    assert [(chosen, rejected) for chosen, rejected, *_ in pairs] == expected
    assert (reason is None) == bool(expected)


def test_a_sample_without_a_pair_says_why():
    # A smaller --min-margin helps only where the scores differ.
    assert choose_pairs([0.5, 0.5], 0.0) == ([], "all scores equal")
    assert choose_pairs([0.5, 0.45], 0.1) == ([], "margin below --min-margin")


def test_the_hybrid_judge_asks_the_model_only_about_ties():
    hybrid = JUDGES["hybrid"]
    assert hybrid.decide({"verifier": [0.6, 0.6], "llm": [0.9, 0.1]}) == ([0.9, 0.1], "llm")
    assert hybrid.decide({"verifier": [0.6, 0.8], "llm": [0.9, 0.1]}) == ([0.6, 0.8], "verifier")


def test_the_choices_of_the_judge_flag_are_the_table():
    flags = {action.dest: action for action in build_parser()._actions}
    assert tuple(flags["judge"].choices) == tuple(JUDGES)


def test_judgements_are_read_again_and_need_a_model_only_where_the_table_says_so(sample, tmp_path):
    jobs = [(sample, as_candidates(render_completion("Warsaw", [0], 0.9), REFUSE))]

    def no_model():
        raise AssertionError("the verifier needs no model")

    path = tmp_path / "judgements.jsonl"
    first = judge_candidates(jobs, JUDGES["verifier"], no_model, path, Shards())
    assert first["popqa:1"]["verifier"] == [1.0, 0.5] and first["popqa:1"]["llm"] is None
    # The file is there, so not even a judge with a model loads one.
    assert judge_candidates(jobs, JUDGES["llm"], no_model, path, Shards()) == first


def test_equal_texts_are_one_candidate_and_every_loss_is_counted(sample, tmp_path):
    texts = {"sft": ["x", "x"], "base": ["y", "x"]}
    for name, completions in texts.items():
        rows = as_candidates(*completions)
        for row in rows:
            row |= {"id": sample["id"], "model": name}
        write_jsonl(tmp_path / f"gens_{name}.jsonl", rows)
    # The second sample has no candidates, so it is no job.
    jobs, n_repeated, lost = read_candidates(tmp_path, [sample, {**sample, "id": "popqa:2"}])
    assert [(row["model"], row["completion"]) for row in jobs[0][1]] == [("sft", "x"), ("base", "y")]
    assert len(jobs) == 1 and lost == {}
    rows = [{"kind": "other answer"}, {"kind": "other citations", "made": "no citation"}]
    assert format_tallies(jobs, [], n_repeated, rows, {"not matched in form": 3, "x": 0}).splitlines() == [
        "candidates: 4 read, 2 with the text of another",
        "pairs: 1 of candidates, 1 made, 3 not matched in form; other answer 1, other citations 1",
    ]


def test_an_answer_that_may_say_too_little_is_no_candidate(sample, tmp_path):
    sample = sample | {"answer_aliases": ["Scottish post-punk band Orange Juice", "Orange Juice"]}
    answers = ("Orange Juice", "Scottish post-punk band", "Orange Juice, a Scottish band", "Josef K")
    rows = as_candidates(*(render_completion(answer, [0], 0.9) for answer in answers))
    for row in rows:
        row |= {"id": sample["id"], "model": "sft"}
    write_jsonl(tmp_path / "gens_sft.jsonl", rows)
    [(_, candidates)], left_out, lost = read_candidates(tmp_path, [sample])
    kept = [parse_completion(row["completion"], 4).answer for row in candidates]
    assert kept == ["Orange Juice", "Orange Juice, a Scottish band", "Josef K"]
    assert left_out["right, but not in full"] == 1 and lost == {}


def test_a_sample_without_two_candidates_says_why(sample, tmp_path):
    sample = sample | {"answer_aliases": ["Scottish post-punk band Orange Juice", "Orange Juice"]}
    in_part = "Scottish post-punk band"
    said = {
        "a": ("Josef K", "Josef K"),
        "b": (in_part, "Josef K"),
        "c": (in_part,),
        "d": ("Josef K", "Orange Juice"),
    }
    rows = []
    for name, answers in said.items():
        texts = (render_completion(answer, [0], 0.9) for answer in answers)
        rows += [row | {"id": name} for row in as_candidates(*texts)]
    rows += [row | {"id": "e"} for row in as_candidates(" ")]
    write_jsonl(tmp_path / "gens_sft.jsonl", rows)
    jobs, _, lost = read_candidates(tmp_path, [sample | {"id": name} for name in "abcdef"])
    assert [(row["id"], len(candidates)) for row, candidates in jobs] == [("a", 1), ("b", 1), ("d", 2)]
    one = "one candidate beside those right, but not in full"
    assert lost == {"same text": 1, one: 1, "no candidate is left": 2}


def test_candidates_that_are_made_again_are_kept_until_the_new_ones_are_complete(tmp_path):
    cache = tmp_path / "abc"
    run = {"settings": {"seed": 1}, "status": "running", "created": 1.0, "started": ""}
    assert not claim_cache(cache, overwrite=True)
    write_json(cache / "manifest.json", run)
    complete_cache(cache, run)
    assert claim_cache(cache, overwrite=False)
    assert not claim_cache(cache, overwrite=True)
    assert not cache.exists() and (tmp_path / ".abc.old/manifest.json").is_file()
    # What was set aside is no cache to judge.
    with pytest.raises(DataError, match="no complete candidate cache"):
        find_cache(tmp_path, {}, None)
    write_json(cache / "manifest.json", run)
    assert not claim_cache(cache, overwrite=True)
    assert (tmp_path / ".abc.old/manifest.json").is_file()
    complete_cache(cache, run)
    assert [path.name for path in tmp_path.iterdir()] == ["abc"]
    assert find_cache(tmp_path, {}, None) == "abc"


def test_a_run_that_makes_candidates_again_is_resumed_by_the_same_command(tmp_path):
    cache = tmp_path / "abc"
    run = {"settings": {"data_sha256": "0"}, "status": "running", "created": 1.0, "started": ""}
    complete_cache(cache, run)
    # Interrupted while generating.
    assert not claim_cache(cache, overwrite=True, judges_too=True)
    write_json(cache / "manifest.json", run)
    write_jsonl(cache / "gens_sft.jsonl", [{"id": "1"}])
    assert not claim_cache(cache, overwrite=True, judges_too=True)
    assert (cache / "gens_sft.jsonl").is_file()
    # Interrupted while judging: the candidates are those that were made again.
    assert complete_cache(cache, run, is_unjudged=True) == 1
    assert claim_cache(cache, overwrite=True, judges_too=True)
    settle_cache(cache)
    assert "unjudged" not in read_json(cache / "manifest.json")
    assert not claim_cache(cache, overwrite=True, judges_too=True)
    assert not (cache / "gens_sft.jsonl").exists()


def test_a_damaged_cache_does_not_hide_a_whole_one(tmp_path, capsys):
    write_json(tmp_path / "whole/manifest.json", {"settings": {"seed": 1}, "status": "complete"})
    write_json(tmp_path / "torn/manifest.json", {"settings": {"seed": 1}})
    assert find_cache(tmp_path, {}, None) == "whole"
    assert "torn/manifest.json: field 'status' is missing" in capsys.readouterr().err
    with pytest.raises(DataError, match="torn/manifest.json: field 'status' is missing"):
        find_cache(tmp_path, {}, "torn")
