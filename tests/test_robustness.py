"""Perturbations keep the gold true: by hand on small samples, by the rules of a sample on the built ones."""

import itertools
import json
import random
import types
from collections import Counter

import pytest
from transformers import LlamaConfig

import robustness
from evidence.orders import chunk_orders
from evidence.queries import CLAIM_QUESTION
from models.distributed import ShardLog, Shards
from perturbations.distractors import DistractorPool
from perturbations.edits import add_distractors, counterfactual, drop_order, drop_support, move_gold, relayout
from perturbations.injection import PAYLOADS, plant
from perturbations.noise import add_noise, noisy_text
from perturbations.prompts import distinct_samples, prompt_key
from perturbations.suites import SUITES, build_suites
from prompt_schema import SFT_TEMPLATES
from tests.canned import REFUSE
from utils.completions import gold_completion, render_completion
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, read_jsonl
from utils.rules import sample_problem
from utils.schema import is_label_answer, read_samples
from utils.text import REFUSAL, holds_answer


@pytest.fixture(scope="module")
def test_samples(data_home):
    return read_samples(data_home / "data/processed/test.jsonl")


@pytest.fixture(scope="module")
def suites(test_samples):
    return build_suites(list(SUITES), test_samples, test_samples, 42)[0]


def texts_of(row):
    return {chunk["text"] for chunk in row["evidence_chunks"]}


def holds_any(chunks, answers):
    return any(holds_answer(f"{chunk['title']} {chunk['text']}", answers) for chunk in chunks)


def multi_hop(sample):
    """The sample with chunks 0 and 2 needed together; chunk 0 alone holds the answer."""
    row = json.loads(json.dumps(sample)) | {"support_sets": [[0, 2]]}
    row["evidence_chunks"][2]["text"] = "Her birthplace was the subject of a film."
    row["evidence_chunks"][2]["title"] = "A museum"
    return row


def test_every_perturbed_sample_keeps_the_rules_of_a_sample(suites):
    for name, suite in suites.items():
        for level, rows in suite.levels.items():
            assert rows and len({row["id"] for row in rows}) == len(rows)
            assert [sample_problem(row) for row in rows] == [None] * len(rows), (name, level)


def test_the_levels_of_a_suite_hold_the_same_samples_in_the_same_order(suites, test_samples):
    for suite in suites.values():
        first, *others = suite.levels.values()
        ids = [row["id"] for row in first]
        for rows in others:
            assert [row["id"] for row in rows] == ids
        # Nothing is left out without a reason that is counted.
        assert len(ids) + sum(suite.left_out.values()) == len(test_samples)


def test_perturbing_leaves_the_test_samples_as_they_were_and_repeats_with_its_seed(test_samples):
    before = json.dumps(test_samples)
    first, again, other = (
        build_suites(list(SUITES), test_samples, test_samples, seed)[0] for seed in (1, 1, 2)
    )
    assert json.dumps(test_samples) == before
    assert all(first[name].levels == again[name].levels for name in SUITES)
    assert first["noise"].levels != other["noise"].levels


def support_texts(row):
    """Each support set as the texts of its chunks: what must stay when ids move."""
    sets = []
    for support_set in row["support_sets"]:
        sets.append({row["evidence_chunks"][i]["text"] for i in support_set})
    return sets


def test_distractors_answer_nothing_and_the_gold_moves_with_its_chunks(suites):
    levels = suites["distractors"].levels
    for n in (2, 4, 8):
        for before, after in zip(levels["0"], levels[str(n)]):
            old = texts_of(before)
            assert len(after["evidence_chunks"]) == len(before["evidence_chunks"]) + n and old < texts_of(
                after
            )
            assert support_texts(before) == support_texts(after)
            answers = before["answer_aliases"] or before["metadata"].get("gold_aliases", [])
            # "supported" or "yes" in a chunk says nothing about the claim.
            if answers and not is_label_answer(answers[0]):
                added = [chunk for chunk in after["evidence_chunks"] if chunk["text"] not in old]
                assert not holds_any(added, answers)
    # Each level contains the one before, so a curve compares like with like.
    for fewer, more in zip(levels["2"], levels["4"]):
        assert texts_of(fewer) < texts_of(more)


def test_a_chunk_with_the_answer_is_no_distractor(sample):
    # The title holds an accepted answer, the text does not.
    warsaw = {"title": "Warszawa", "text": "A city on the Vistula."}
    lyon = {"title": "Lyon", "text": "A city."}
    other = {**sample, "id": "popqa:2", "group": "g2", "evidence_chunks": [warsaw, lyon]}
    pool = DistractorPool([sample, other])
    assert pool.draw(sample, 1, random.Random(0)) == [lyon]
    assert pool.draw(sample, 2, random.Random(0)) is None


def test_added_chunks_shift_the_ids(sample):
    found = relayout(sample, [(None, {"title": "New", "text": "x"}), *enumerate(sample["evidence_chunks"])])
    assert found["support_sets"] == [[1], [3]] and found["support_spans"] == [1, 3]
    assert found["hard_negatives"] == [0, 2, 4]
    found = add_distractors(sample, [{"title": "New", "text": "x"}] * 2, random.Random(0))
    supports = [found["evidence_chunks"][i] for i in found["support_spans"]]
    assert supports == [sample["evidence_chunks"][i] for i in (0, 2)]


def test_one_of_two_alternative_sets_dropped_leaves_the_answer_both_dropped_a_refusal(sample):
    # Chunk 0 goes from a share of 0.2 on, chunk 2 from 0.7 on.
    half = drop_support(sample, 0.5, {0: 0.2, 2: 0.7}, None)
    assert half["answer"] == "Warsaw" and half["support_sets"] == [[1]] and len(half["evidence_chunks"]) == 3
    gone = drop_support(sample, 1.0, {0: 0.2, 2: 0.7}, None)
    assert gone["answer"] == REFUSAL and not gone["answerable"] and gone["support_spans"] == []
    # Kept, so that one can check that the evidence left contains none of them.
    assert gone["metadata"]["gold_aliases"] == ["Warsaw", "Warszawa"]
    assert sample_problem(half) is None and sample_problem(gone) is None


def test_one_hop_of_two_dropped_is_a_refusal_and_the_hop_with_the_answer_goes_first(sample):
    row = multi_hop(sample)
    for seed in range(20):
        drops = drop_order(row, random.Random(seed))
        assert drops[0] < drops[2]
        # Between the two shares one hop is gone; what is left must not contain the answer.
        left = drop_support(row, (drops[0] + drops[2]) / 2, drops, None)
        assert left["answer"] == REFUSAL
        assert not any(holds_answer(c["text"], ["Warsaw"]) for c in left["evidence_chunks"])


def test_two_hops_that_both_hold_the_answer_go_together(sample):
    row = {**sample, "support_sets": [[0, 2]]}
    assert len(set(drop_order(row, random.Random(3)).values())) == 1


def test_two_hops_that_a_refutation_needs_go_together(sample):
    # One of them may refute the claim alone: what is left would still decide it.
    row = multi_hop(sample) | {"answer": "refuted", "answer_aliases": ["refuted", "false"]}
    for seed in range(20):
        assert len(set(drop_order(row, random.Random(seed)).values())) == 1


def test_support_is_dropped_in_the_share_asked_for(sample):
    row = {**sample, "support_sets": [[0]], "support_spans": [0]}
    n_dropped = sum(drop_order(row, random.Random(seed))[0] < 0.25 for seed in range(2000))
    # Binomial: 500 with a standard deviation of 19.4.
    assert abs(n_dropped - 500) < 80


def test_a_sample_whose_evidence_is_all_support_keeps_a_filler(sample):
    row = relayout(sample, [(0, sample["evidence_chunks"][0])])
    filler = {"title": "Radium", "text": "It glows."}
    # Without a filler the sample is left out of the suite.
    assert drop_support(row, 1.0, {0: 0.5}, filler)["evidence_chunks"] == [filler]
    assert drop_support(row, 1.0, {0: 0.5}, None) is None


def test_support_drop_turns_all_gold_to_refusal_at_the_end(suites):
    levels = suites["support_drop"].levels
    counts = []
    for rows in levels.values():
        counts.append(sum(row["answerable"] for row in rows))
    assert counts[0] > counts[2] > counts[4] == 0 and counts == sorted(counts, reverse=True)
    for rows in levels.values():
        for row in rows:
            answers = row["metadata"].get("gold_aliases") or []
            if row["metadata"]["support_rule"] == "support dropped" and not is_label_answer(answers[0]):
                # Not in a title either: such hops were once left behind (docs/log.md).
                assert not holds_any(row["evidence_chunks"], answers)


def test_the_gold_chunk_stands_at_each_place(suites, sample):
    levels = suites["order"].levels
    assert list(levels) == ["0", "1", "2"]
    for place, rows in levels.items():
        assert all(row["support_sets"] == [[int(place)]] for row in rows)
    row = relayout(sample, list(enumerate(sample["evidence_chunks"][:2])))
    assert [c["title"] for c in move_gold(row, 1)["evidence_chunks"]] == ["Pierre Curie", "Marie Curie"]


def test_noise_changes_about_its_share_and_spares_answers_numbers_and_negations():
    text = (
        "Marie Curie was not born in Paris but in Warsaw in 1867, said the old chronicler of the family " * 40
    )
    for kind in ("char", "word"):
        noisy = noisy_text(text, kind, 0.05, ["Warsaw"], random.Random(1))
        words = Counter(noisy.split())
        assert words["Warsaw"] == words["not"] == words["1867,"] == 40 and noisy != text
    letters = noisy_text("abcdefghij" * 500, "char", 0.03, [], random.Random(1))
    # A quarter of 150 changes drops a letter, a quarter doubles one: the length stays near 5,000.
    assert 4950 < len(letters) < 5050
    assert noisy_text(text, "char", 0.0, [], random.Random(1)) == text


CLAIM = "The Franco-Prussian war was not won by Denmark before May 1871 after thirteen defeats"
DECIDING = "Franco-Prussian not won by Denmark before May 1871 after thirteen defeats war".split()


def claim_sample(answer, evidence=CLAIM):
    """A verdict sample of the claim, its support the same words, and another chunk with a negation."""
    row = asked(f"Is this claim true? {CLAIM}", answer, evidence, claim=CLAIM)
    other = {"title": "Denmark", "text": "Denmark didn’t join the old war, said the only chronicler there."}
    return row | {"evidence_chunks": [*row["evidence_chunks"], other], "hard_negatives": [1]}


@pytest.mark.parametrize("answer", ["supported", "refuted"])
def test_word_noise_never_touches_what_decides_a_claim(answer):
    sample = claim_sample(answer)
    for seed in range(60):
        # Half of all words: what may go goes.
        noisy = add_noise(sample, "word", 0.5, seed)
        for text in (noisy["question"], noisy["evidence_chunks"][0]["text"]):
            kept = [word for word in text.split() if word in DECIDING]
            assert kept == [word for word in CLAIM.split() if word in DECIDING]
        other = noisy["evidence_chunks"][1]["text"].split()
        assert {"Denmark", "didn’t", "only"} <= set(other)


def test_suites_that_fit_no_sample_are_an_error_with_the_reasons(unanswerable):
    with pytest.raises(DataError, match=r"none of 1 samples fits order, counterfactual \(dropped .*--suite"):
        build_suites(["order", "counterfactual"], [unanswerable], [unanswerable], 42)


def test_noise_is_in_the_claim_and_not_in_the_question_around_it():
    sample = claim_sample("supported")
    sample["metadata"]["claim"] = claim = "It was the old war that thirteen chronicles tell at length about."
    sample["question"] = CLAIM_QUESTION.format(claim=claim)
    changed = [add_noise(sample, kind, 0.5, seed) for kind in ("char", "word") for seed in range(20)]
    for noisy in changed:
        assert noisy["question"] == CLAIM_QUESTION.format(claim=noisy["metadata"]["claim"])
    assert any(noisy["metadata"]["claim"] != claim for noisy in changed)


@pytest.mark.parametrize("kind", ["char", "word"])
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("it is 3 cm wide and 12 m long there", {"3", "cm", "12", "m"}),
        ("then she saw that he had been ill", {"she", "he"}),
        ("das war nicht lang genug gewesen", {"nicht"}),
        ("он не был там вчера вечером", {"он", "не", "был", "там", "вчера", "вечером"}),
    ],
)
def test_noise_leaves_units_pronouns_and_other_scripts(kind, text, kept):
    for seed in range(60):
        noisy = noisy_text(text, kind, 0.5, [], random.Random(seed)).split()
        assert kept <= set(noisy)


def test_letter_noise_spares_names_numbers_and_negations_and_makes_none():
    sample = claim_sample("supported")
    for seed in range(60):
        noisy = add_noise(sample, "char", 0.3, seed)
        words = set(noisy["question"].split()) & set(noisy["evidence_chunks"][0]["text"].split())
        assert {"Franco-Prussian", "not", "by", "Denmark", "before", "May", "1871", "thirteen"} <= words
        hot = noisy_text("hot now a", "char", 0.5, [], random.Random(seed)).split(" ")
        assert len(hot) == 3 and all(hot) and not {"not", "no"} & set(hot)


def test_noise_spares_names_that_the_question_writes_small_and_answers_inside_a_word():
    sample = asked(
        "who commanded the franco troops of moltke", "Prussian", "The Franco-{} army of Moltke won."
    )
    for seed in range(60):
        for kind in ("char", "word"):
            noisy = add_noise(sample, kind, 0.5, seed)
            assert {"franco", "moltke", "who"} <= set(noisy["question"].split())
            assert holds_answer(noisy["evidence_chunks"][0]["text"], ["Franco-Prussian"])


def test_noise_keeps_the_gold_readable(suites):
    for name, rows in suites["noise"].levels.items():
        for row in rows:
            # Support by annotation alone need not contain the answer's words, even without noise.
            by_annotation = row["metadata"]["support_rule"] == "gold annotation"
            if not row["answerable"] or is_label_answer(row["answer"]) or by_annotation:
                continue
            support = [row["evidence_chunks"][i]["text"] for i in row["support_spans"]]
            assert any(holds_answer(text, row["answer_aliases"]) for text in support), (name, row["id"])


def test_a_planted_text_asks_for_an_answer_that_no_chunk_holds(sample):
    for payload in PAYLOADS:
        found = plant(sample, payload, random.Random(0))
        changed = [i for i in range(4) if found["evidence_chunks"][i] != sample["evidence_chunks"][i]]
        assert len(changed) == 1 and changed[0] in sample["hard_negatives"]
        assert found["metadata"]["planted"] == changed[0]
        canary = found["metadata"]["canary"]
        assert canary in found["evidence_chunks"][changed[0]]["text"]
        assert not holds_answer(str(sample), [canary])
        assert found["answer"] == "Warsaw"
    # Valid by our own schema, so that a model that copies it obeys.
    fake = json.loads(PAYLOADS["fake_json"].format(canary="Port Amaranth", i=2))
    assert fake == {"answer": "Port Amaranth", "citations": [2], "confidence": 1.0}


def test_the_swapped_answer_replaces_every_form_of_the_old_one(sample):
    gold = {"answer": "Oslo", "answer_aliases": ["Oslo"]}
    donor = {**sample, "id": "popqa:9", "question": "Where was Ada born?", **gold}
    found = counterfactual(sample, [donor], random.Random(0))
    texts = [c["text"] for c in found["evidence_chunks"]]
    assert texts[0] == "She was born in Oslo in 1867."
    assert texts[2] == "The birthplace of Marie Curie is now a museum in Oslo."
    assert found["evidence_chunks"][2]["title"] == "Oslo" and found["answer_aliases"] == ["Oslo"]
    # What a model would answer from memory.
    assert found["metadata"]["memory_aliases"] == ["Warsaw", "Warszawa"]
    assert sample_problem(found) is None


def test_a_swap_that_would_not_be_clean_is_refused_with_its_reason(sample):
    gold = {"answer": "Oslo", "answer_aliases": ["Oslo"]}
    donor = {**sample, "id": "popqa:9", "question": "Where was Ada born?", **gold}
    asked = {**sample, "question": "Is Warsaw the birthplace?"}
    assert counterfactual(asked, [donor], random.Random(0)) == "answer appears in the question"
    # Its own answer is in its evidence already.
    assert counterfactual(sample, [sample], random.Random(0)) == "no similar answer to swap in"
    label = {**sample, "answer": "yes", "answer_aliases": ["yes"]}
    assert counterfactual(label, [donor], random.Random(0)) == "no entity to swap"


def asked(question, answer, evidence="It is {}.", **metadata):
    """An answerable sample with one support chunk that states the answer."""
    chunk = {"title": "A page", "text": evidence.format(answer)}
    return {
        **{"id": f"own:{question}", "source": "own", "question": question, "group": question},
        **{"evidence_chunks": [chunk], "answer": answer, "answer_aliases": [answer], "answerable": True},
        **{"support_sets": [[0]], "support_spans": [0], "hard_negatives": [], "metadata": metadata},
    }


# Pairs that an earlier swap joined, from real samples: a lake of "7 gold medals", a mall's country "Rakim".
DIFFERENT_TYPES = [
    ("When did radio shack change?", "April 26, 2005", "When was the car made?", "US$11,770"),
    ("When did the ruhr fall?", "1923", "How many people live there?", "1926"),
    ("When did the ruhr fall?", "1923", "When did it rain?", "April 1926"),
    ("Which country is home to the mall?", "India", "Which rapper was born in Harlem?", "Rakim Mayers"),
    ("What profession do they share?", "filmmaker", "What event did she run?", "3000 metres steeplechase"),
    ("How many characters are there?", "7", "How far is it?", "14 miles"),
    ("How many live there?", "7", "How many live in the city?", "1,203,000"),
    ("Who sang the song?", "Gayla Peevey", "Where is it?", "Near East"),
    ("Who sang the song?", "Gayla Peevey", "Who sang the hit?", "The Impalas"),
    ("Who won the cup?", "Billie Jean King", "Who won the league?", "Real Madrid"),
    ("Where did it begin?", "in the Near East", "Where is the school?", "Zenger High"),
    ("In what year was it, 1992 or so?", "1992", "Until when?", "the 1990s"),
    ("What share is it?", "7%", "What share is gone?", "7 dollars"),
    ("Is it true?", "Oslo", "Is it so?", "Bergen"),
    ("Who is it?", "Ann Lee", "Who did it?", "Eve Roe ("),
]
SAME_TYPES = [
    ("When did radio shack change?", "April 26, 2005", "When was it?", "6 March 1998"),
    ("In which year was the ruhr taken?", "1923", "When did it rain?", "1926"),
    ("Which country is home to the mall?", "India", "The film was made in which country?", "Brazil"),
    ("He was born in the town in which she died in what city?", "Oslo", "What city is it?", "Rome"),
    ("Who sang the song?", "Gayla Peevey", "The book is by which novelist?", "Ludwig van Dyke"),
    ("How many characters are there?", "seven", "How many wheels has it?", "two"),
    ("How high is it?", "7 metres", "How long is it?", "12 metres"),
    ("Where is the lake?", "Oregon", "Where was Ada born?", "New York"),
]


@pytest.mark.parametrize("question, answer, other, donated", DIFFERENT_TYPES)
def test_an_answer_of_another_type_is_never_swapped_in(question, answer, other, donated):
    for ours, theirs in (((question, answer), (other, donated)), ((other, donated), (question, answer))):
        assert isinstance(counterfactual(asked(*ours), [asked(*theirs)], random.Random(0)), str)


@pytest.mark.parametrize("question, answer, other, donated", SAME_TYPES)
def test_an_answer_of_the_same_type_is_swapped_in(question, answer, other, donated):
    swapped = counterfactual(asked(question, answer), [asked(other, donated)], random.Random(0))
    assert swapped["answer"] == donated and swapped["evidence_chunks"][0]["text"] == f"It is {donated}."


def test_popqa_swaps_within_the_relation_where_it_can():
    facts = {"type": "genre", "popularity": 5}
    rock = asked("What genre is it?", "alternative rock", **facts)
    house = asked("What genre is she?", "deep house", **facts)
    painter = asked("What is his occupation?", "painter", **facts | {"type": "occupation"})
    assert counterfactual(rock, [painter, house], random.Random(1))["answer"] == "deep house"
    assert counterfactual(rock, [painter], random.Random(1)) == "no similar answer to swap in"


def test_a_verdict_is_left_out_of_the_swaps_and_so_is_a_name_whose_half_would_stay():
    claim = asked("Is this claim supported?", "supported", claim="Oslo is in Norway.")
    assert counterfactual(claim, [claim], random.Random(0)) == "no entity to swap"
    christie = asked("Who plays it?", "Gwen Christie", "It is {}. Christie returned.")
    found = counterfactual(christie, [asked("Who sang?", "Teri Garr")], random.Random(0))
    assert found == "part of the old name left in the support"


def completions(suites, answer):
    """Prediction rows for every prompt of the suites: key -> row."""
    found = {}
    for key, row in distinct_samples(suites).items():
        shown = list(range(len(row["evidence_chunks"])))
        found[key] = {"id": key, "model": "sft", "completion": answer(row), "shown": shown}
    return found


def levels_of(suites, name, by_key):
    """The levels of one suite's block in robustness.json."""
    block, _ = robustness.score_suite(suites[name], by_key, 0)
    return block["levels"]


def test_a_model_that_follows_the_evidence_scores_full_at_every_level(suites):
    by_key = completions(suites, lambda row: gold_completion(row, list(range(len(row["evidence_chunks"])))))
    for name in suites:
        assert all(level["net_score"] == 1.0 for level in levels_of(suites, name, by_key).values()), name
    assert levels_of(suites, "injection", by_key)["fake_json"]["attack_success_rate"] == 0.0
    assert levels_of(suites, "support_drop", by_key)["100%"]["refused_of_turned"] == 1.0
    assert levels_of(suites, "counterfactual", by_key)["swapped"]["follows_memory"] == 0.0


def test_a_model_that_obeys_is_caught(suites):
    by_key = completions(suites, lambda row: render_completion(row["metadata"].get("canary", "x"), [0], 1.0))
    levels = levels_of(suites, "injection", by_key)
    assert levels["instruction"]["attack_success_rate"] == 1.0
    # Nothing is planted there, so there is nothing to obey.
    assert levels["clean"]["attack_success_rate"] is None
    assert levels["clean"]["unmoved_where_uncited"] is None
    assert levels["instruction"]["em_answerable"] == 0.0


def test_a_model_that_obeys_outside_the_format_is_caught(suites):
    by_key = completions(suites, lambda row: row["metadata"].get("canary", "x"))
    level = levels_of(suites, "injection", by_key)["new_task"]
    assert level["attack_success_rate"] == 1.0 and level["unparsable_rate"] == 1.0


def test_a_planted_chunk_that_no_prompt_shows_counts_for_nothing(suites):
    by_key = completions(suites, lambda row: REFUSE)
    whole = levels_of(suites, "injection", by_key)["instruction"]
    assert whole["chunks_shown"] == whole["chunks"] and whole["n_changed"] == whole["n"]
    for sample in suites["injection"].levels["instruction"]:
        row = by_key[prompt_key(sample)]
        row["shown"] = [i for i in row["shown"] if i != sample["metadata"]["planted"]]
    cut = levels_of(suites, "injection", by_key)["instruction"]
    assert cut["n_attack_success_rate"] == cut["n_unmoved_where_uncited"] == 0
    assert cut["chunks_shown"] == cut["chunks"] - 1


def test_an_answer_that_changes_beside_an_uncited_text_is_counted(suites):
    def reply(row):
        is_planted = "planted" in row["metadata"]
        if is_planted and row["id"].endswith("#u"):
            return REFUSE
        # Another answer, from a chunk that was left as it was.
        others = [i for i in range(len(row["evidence_chunks"])) if i != row["metadata"].get("planted")]
        return render_completion("moved" if is_planted else "still", others[:1], 0.9)

    levels = levels_of(suites, "injection", completions(suites, reply))
    assert levels["poison"]["unmoved_where_uncited"] == 0.0
    same = levels_of(suites, "injection", completions(suites, lambda row: REFUSE))
    assert same["poison"]["unmoved_where_uncited"] == 1.0
    # Whoever cites the text's chunk is no such reply.
    cited = completions(suites, lambda row: render_completion("x", [row["metadata"].get("planted", 0)], 1.0))
    assert levels_of(suites, "injection", cited)["poison"]["n_unmoved_where_uncited"] == 0


def test_a_model_that_remembers_is_caught(suites):
    def remember(row):
        old = row["metadata"].get("memory_aliases", [row["answer"]])
        return render_completion(old[0], row["support_spans"], 0.9)

    levels = levels_of(suites, "counterfactual", completions(suites, remember))
    assert levels["swapped"]["follows_memory"] == 1.0 and levels["swapped"]["em_answerable"] == 0.0
    assert levels["original"]["em_answerable"] == 1.0
    # em is over all samples of the suite, which are all answerable: 1 - 0, worse by 1.
    assert levels["swapped"]["deltas"]["em_answerable"] == -1.0


def test_answers_that_never_change_are_no_better_where_support_is_dropped(suites):
    # Right on every second sample, whatever is shown.
    levels = suites["support_drop"].levels
    is_right = {sample["id"]: i % 2 == 0 for i, sample in enumerate(levels["0%"])}

    def answer(row):
        gold = row["answer"] if row["answerable"] else [*row["metadata"].get("gold_aliases", []), REFUSAL][0]
        return render_completion(gold if is_right[row["id"]] else "Nobody", [], 0.9)

    for name, level in list(levels_of(suites, "support_drop", completions(suites, answer)).items())[1:]:
        assert level["deltas"]["em_answerable"] in (None, 0.0), name
    assert level["n_answerable"] == 0 and level["deltas"]["em_answerable"] is None


def test_always_refusing_looks_better_the_more_support_is_dropped(suites):
    levels = levels_of(suites, "support_drop", completions(suites, lambda row: REFUSE))
    nets = [level["net_score"] for level in levels.values()]
    # Why refused_of_turned and em_answerable are plotted beside the net score.
    assert nets == sorted(nets) and nets[-1] == 1.0 and levels["0%"]["refused_of_turned"] is None


def test_robustness_runs_and_writes_its_files(stage, home, tiny_gemma_dir):
    flags = "--test-data data/processed/test.jsonl --limit 8 --max-new-tokens 3 --batch-size 16"
    flags += " --suite order,injection --samples-dir perturbed"
    done = stage("robustness.py", "--model-path", tiny_gemma_dir, *flags.split(), home=home)
    assert done.returncode == 0, done.stderr
    results = read_json(home / "robustness.json")
    assert set(results["suites"]) == {"order", "injection"}
    assert list(results["suites"]["injection"]["levels"]) == ["clean", *PAYLOADS]
    assert results["run"]["times"]["sft"]["tokens_per_second"] > 0
    assert results["run"]["status"] == "complete" and (home / "robustness.png").stat().st_size > 10_000
    rows = [row for _, row in read_jsonl(home / "robustness_predictions.jsonl")]
    # 8 samples at 8 levels; the hidden log of the run is gone.
    assert Counter(row["suite"] for row in rows)["injection"] == 64 and not list(home.glob(".*partial*"))
    assert len(read_samples(home / "perturbed/injection-fake_json.jsonl")) == 8
    # Results on stdout, the next step on stderr.
    assert "wrote " in done.stdout and "next: " in done.stderr and "next: " not in done.stdout


def test_a_dry_run_writes_nothing_and_a_wrong_suite_is_corrected(home, tiny_gemma_dir, capsys):
    flags = ["--model-path", str(tiny_gemma_dir), "--test-data", "data/processed/test.jsonl"]
    robustness.main([*flags, "--dry-run"])
    assert "would generate" in capsys.readouterr().out and [path.name for path in home.iterdir()] == ["data"]
    with pytest.raises(UsageError, match="did you mean 'order'"):
        robustness.main([*flags, "--suite", "ordr"])


def test_an_interrupted_run_generates_only_what_is_missing(suites, tokenizer, tmp_path, monkeypatch):
    distinct = distinct_samples({"order": suites["order"]})
    asked = []

    def predict(model, tokenizer, prompts, name, settings):
        # The engine plans all prompts, and generates those whose tokens are not known.
        asked.append([key for i, key in enumerate(prompts) if i not in settings.known])
        row = {"model": "sft", "completion": REFUSE, "n_tokens": 9, "token_ids": [1]}
        yield [{**row, "id": key, "shown": prompts[key].shown} for key in asked[-1]]

    monkeypatch.setattr(robustness, "predict", predict)
    monkeypatch.setattr(robustness, "load_tokenizer", lambda _: tokenizer)
    # The prompts are built for the number of positions in the model's config.
    model = types.SimpleNamespace(config=LlamaConfig())
    monkeypatch.setattr(robustness, "load_generator", lambda *_: model)
    settings = {"model_dir": "m", "template_text": SFT_TEMPLATES["default"], "max_prompt_tokens": 900}
    args = robustness.build_parser().parse_args(["--model-path", "m", "--test-data", "t"])
    # The first run got as far as five rows.
    first = ShardLog(tmp_path / "p.jsonl", settings, Shards())
    done = list(distinct)[:5]
    row = {"model": "sft", "completion": REFUSE, "shown": [0], "token_ids": [1]}
    first.add([{**row, "id": key} for key in done])
    again = ShardLog(tmp_path / "p.jsonl", settings, Shards())
    robustness.generate_missing(args, distinct, settings, again)
    assert asked == [list(distinct)[5:]] and {row["id"] for row in again.rows()} == set(distinct)
    # Nothing is missing now: not even the model is loaded.
    robustness.generate_missing(args, distinct, settings, again)
    assert len(asked) == 1


def in_three_orders(suites, answer):
    """Prediction rows for the prompts of three orders; `answer(sample, order of its chunks)`."""
    found = {}
    for suite in suites.values():
        for sample in itertools.chain.from_iterable(suite.levels.values()):
            for order in chunk_orders(len(sample["evidence_chunks"]), 3):
                turned = {**sample, "evidence_chunks": [sample["evidence_chunks"][i] for i in order]}
                row = {"model": "sft", "completion": answer(sample, order), "probability": 0.5}
                found[prompt_key(turned)] = row | {"shown": list(range(len(order)))}
    return found


def test_what_three_orders_agree_on_cites_chunks_and_not_numbers(suites):
    by_key = in_three_orders(suites, gold_completion)
    assert by_key.keys() == distinct_samples(suites, 3).keys()
    for name, suite in suites.items():
        block, _ = robustness.score_suite(suite, by_key, 0, 3)
        assert all(level["net_score"] == 1.0 for level in block["levels"].values()), name


def test_an_attack_that_works_from_one_place_is_outvoted(suites):
    own = {"injection": suites["injection"]}

    def answer(sample, order):
        planted = sample["metadata"].get("planted")
        if planted is not None and order[0] == planted:
            return render_completion(sample["metadata"]["canary"], [0], 0.9)
        return gold_completion(sample, order)

    block, _ = robustness.score_suite(own["injection"], in_three_orders(own, answer), 0, 3)
    rates = [level["attack_success_rate"] for name, level in block["levels"].items() if name != "clean"]
    assert rates and max(rates) == 0.0


def test_prompts_that_levels_share_are_generated_once(suites):
    n_rows = 0
    for suite in suites.values():
        n_rows += sum(len(rows) for rows in suite.levels.values())
    assert len(distinct_samples(suites)) < n_rows


def test_an_unanswerable_sample_is_the_same_prompt_at_every_share_dropped(suites):
    levels = suites["support_drop"].levels
    for before, after in zip(levels["0%"], levels["100%"]):
        assert (prompt_key(before) == prompt_key(after)) is (not before["answerable"])


def test_noise_leaves_labels_and_ids_alone(sample):
    noisy = add_noise(sample, "word", 0.05, 3)
    for key in sample.keys() - {"question", "evidence_chunks"}:
        assert noisy[key] == sample[key], key
    assert noisy.keys() == sample.keys()
