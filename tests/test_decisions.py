"""Biases on the first token of an answer: exact in generation, and the best ones found on val samples."""

import copy
import dataclasses
import json
import math
import shutil
import types

import numpy as np
import pytest
import torch

import evaluate_sft_fast_robust
import make_prefs
import robustness
import train_sft
from ask import load_asker
from asking.checkpoint import ask_settings
from asking.documents import read_documents
from evaluation import decided
from evaluation import decisions as fitting
from evaluation.decided import Branch, Decided, decide
from evaluation.decisions import fit_decisions
from evidence.queries import claim_of
from evidence.surface_gates import fit_gates, gate_log_odds, with_factors
from generation.answering import predict
from generation.choice import Bias
from generation.constrained import Schema, SchemaGuide
from generation.decisions import decision_biases, first_tokens, forcing_bias
from generation.drafting import Drafter
from generation.engine import GenerationSettings, generate
from generation.sampling import Sampling
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from tests.conftest import ROOT
from training.decisions import complete_branches, fit_to_answers
from training.whole import mark_whole
from utils.completions import Parsed, gold_completion
from utils.decisions import (
    BIASES,
    Decisions,
    Gate,
    calibration_path,
    decision_settings,
    decisions_json,
    decisions_of,
    read_calibration,
    read_decisions,
)
from utils.errors import DataError, StageError, UsageError
from utils.jsonl import read_json, write_json
from utils.scoring import score_sample
from utils.text import REFUSAL
from utils.tokens import encode_completion, end_id


class Scripted:
    """A guide with a fixed draft, no constraint and no end."""

    def __init__(self, text=()):
        self.text = list(text)

    def draft(self, ids):
        return self.text[len(ids) : len(ids) + 5]

    def allowed(self, ids):
        return None

    def stop(self, ids):
        return False


@pytest.fixture(scope="module")
def prompts(tokenizer, samples):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    return [builder.build(sample) for sample in samples[:6]]


@pytest.fixture(scope="module")
def model(make_model):
    return make_model("llama")


def run(model, tokenizer, prompts, biases=(), guide=lambda i: Scripted(), **options):
    settings = GenerationSettings(**{"batch_size": 4, "max_new_tokens": 8, **options}, biases=biases)
    found = {}
    for batch in generate(model, tokenizer, [p.suffix for p in prompts], guide, prompts[0].prefix, settings):
        found |= dict(batch)
    return [found[i] for i in range(len(prompts))]


# --- generation


@pytest.mark.parametrize("batch_size", [1, 4, 12])
@pytest.mark.parametrize("drafting", [False, True])
def test_a_bias_flips_a_greedy_token_exactly_where_the_logits_say(
    batch_size, drafting, model, tokenizer, prompts
):
    # Every prompt twice, so that rows of one prompt share its reading and still have their own bias.
    twice = [prompt for prompt in prompts for _ in range(2)]
    plain = run(model, tokenizer, twice, batch_size=batch_size)
    place = 3
    biases = []
    tokens = []
    for prompt, row in zip(prompts, plain[::2]):
        logits = model(torch.tensor([prompt.ids + row.ids[:place]])).logits[0, -1]
        best, third = logits.topk(3).indices[[0, 2]].tolist()
        assert best == row.ids[place]
        gap = (logits[best] - logits[third]).item()
        tokens.append(third)
        for bias in (gap - 1e-3, gap + 1e-3):
            biases.append(Bias(tuple(row.ids[:place]), ((third, bias),)))

    def guide(i):
        return Scripted(plain[i].ids if drafting else ())

    found = run(model, tokenizer, twice, biases, guide, batch_size=batch_size)
    for i, token in enumerate(tokens):
        below, above = found[2 * i : 2 * i + 2]
        # What flips nothing changes nothing, not a bit of a log-probability.
        assert below == plain[2 * i] or drafting
        assert below.ids == plain[2 * i].ids
        assert above.ids[: place + 1] == plain[2 * i].ids[:place] + [token]
        logits = model(torch.tensor([prompts[i].ids + above.ids[:place]])).logits[0, -1]
        assert above.logps[place] == pytest.approx(logits.log_softmax(-1)[token].item(), abs=1e-3)


def test_a_bias_waits_for_its_place(model, tokenizer, prompts):
    plain = run(model, tokenizer, prompts)
    elsewhere = [Bias((*row.ids[:2], row.ids[2] + 1), ((7, math.inf),)) for row in plain]
    assert run(model, tokenizer, prompts, elsewhere) == plain
    assert run(model, tokenizer, prompts, [None] * len(prompts)) == plain


def test_sampled_tokens_follow_the_biased_distribution(model, tokenizer, prompts):
    # 900 rows of one prompt, read once, each with its own stream.
    many = [prompts[0]] * 900
    logits = model(torch.tensor([prompts[0].ids])).logits[0, -1]
    token = int(logits.argmax())
    bias = Bias((), ((token, 5.0),))
    options = {"batch_size": 300, "max_new_tokens": 1, "sampling": Sampling(temperature=0.8)}
    found = run(model, tokenizer, many, [bias] * 900, **options)
    raised = logits.clone()
    raised[token] += 5.0
    expected = (raised / 0.8).softmax(-1)[token].item()
    share = np.mean([row.ids == [token] for row in found])
    assert 0.1 < expected < 0.9 and share == pytest.approx(expected, abs=0.06)
    # The reported log-probability is the model's own.
    own = next(row.logps[0] for row in found if row.ids == [token])
    assert own == pytest.approx(logits.log_softmax(-1)[token].item(), abs=1e-3)
    banned = run(model, tokenizer, many, [Bias((), ((token, -math.inf),))] * 900, **options)
    assert not any(row.ids == [token] for row in banned)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_constrained_completions_decide_as_they_are_biased(batch_size, model, tokenizer, prompts, samples):
    schema = Schema(tokenizer)
    drafter = Drafter([encode_completion(tokenizer, gold_completion(s, list(range(9)))) for s in samples[:3]])

    def guide(i):
        return SchemaGuide(schema, drafter, len(prompts[i].shown))

    options = {"guide": guide, "batch_size": batch_size, "max_new_tokens": 60}
    plain = run(model, tokenizer, prompts, **options)
    opening, refusal, refuted, _ = first_tokens(tokenizer)
    n = len(opening)
    assert all(tuple(row.ids[:n]) == opening for row in plain)
    for branch, token in (("refuse", refusal), ("refuted", refuted)):
        forced = run(model, tokenizer, prompts, [forcing_bias(tokenizer, branch, True)] * 6, **options)
        assert {row.ids[n] for row in forced} == {token}
    # The bias that turns the decision over is the gap that the log-probabilities of both rows give.
    for sign, expected in ((-1e-3, plain), (1e-3, forced)):
        gaps = [a.logps[n] - b.logps[n] + sign for a, b in zip(plain, forced)]
        biases = [Bias(opening, ((refuted, gap),)) for gap in gaps]
        assert [row.ids for row in run(model, tokenizer, prompts, biases, **options)] == [
            row.ids for row in expected
        ]


def shown(samples):
    """Prompts that show all chunks."""
    return [types.SimpleNamespace(chunks=sample["evidence_chunks"]) for sample in samples]


def test_claims_and_other_questions_have_their_own_biases(tokenizer, samples):
    kinds = [next(s for s in samples if bool(claim_of(s)) is is_claim) for is_claim in (True, False)]
    opening, refusal, refuted, _ = first_tokens(tokenizer)
    of_claim, of_question = decision_biases(tokenizer, Decisions(-1.0, 2.0, 0.5), kinds, shown(kinds))
    assert of_claim == Bias(opening, ((refusal, -1.0), (refuted, 0.5)))
    assert of_question == Bias(opening, ((refusal, 2.0),))
    # Without numbers there is no bias at all, so that generation takes its usual way.
    assert decision_biases(tokenizer, None, kinds, shown(kinds)) == []
    assert decision_biases(tokenizer, Decisions(), kinds, shown(kinds)) == [None, None]
    assert (opening, refusal) == (
        tuple(encode_completion(tokenizer, '{"answer": "' + REFUSAL)[: len(opening)]),
        encode_completion(tokenizer, '{"answer": "' + REFUSAL)[len(opening)],
    )


def test_gates_move_the_biases_of_each_sample(tokenizer, samples):
    opening, refusal, refuted, _ = first_tokens(tokenizer)
    # Twice, as 20 of each class are wanted.
    found = fit_gates([*samples, *samples])
    assert set(found) == {"refuse_claim", "refuse_question", "refuted"}
    gates = with_factors(found, {"refuse_claim": 0.5, "refuse_question": 0.25, "refuted": 2.0})
    log_odds = gate_log_odds(gates, samples)
    decisions = Decisions(-1.0, 2.0, 0.5, gates)
    biases = decision_biases(tokenizer, decisions, samples, shown(samples))
    for i, (sample, bias) in enumerate(zip(samples, biases)):
        of_claim, of_question, verdict = (float(log_odds[name][i]) for name in gates)
        if claim_of(sample):
            added = ((refusal, -1.0 + 0.5 * of_claim), (refuted, 0.5 + 2.0 * verdict))
            assert (bias, of_question) == (Bias(opening, added), 0.0)
        else:
            assert bias == Bias(opening, ((refusal, 2.0 + 0.25 * of_question),))
            assert (of_claim, verdict) == (0.0, 0.0)
    # They were fitted to these, and tell most of them.
    refuse = log_odds["refuse_claim"] + log_odds["refuse_question"]
    assert np.mean([(odds > 0) != sample["answerable"] for sample, odds in zip(samples, refuse)]) > 0.6
    assert not any(odds.any() for odds in gate_log_odds({}, samples).values())
    assert set(fit_gates([sample for sample in samples if sample["answerable"]] * 2)) <= {"refuted"}
    assert with_factors(found, {"refuted": 1.0}).keys() == {"refuted"}


def test_gates_read_what_a_prompt_shows_and_nothing_without_chunks(tokenizer, samples):
    gates = with_factors(fit_gates([*samples, *samples]), dict.fromkeys(BIASES, 1.0))
    sample = next(sample for sample in samples if not claim_of(sample) and sample["answerable"])
    one = {**sample, "evidence_chunks": sample["evidence_chunks"][:1]}
    none = {**sample, "evidence_chunks": []}

    def bias(asked, prompted):
        return decision_biases(tokenizer, Decisions(0.5, 0.5, 0.0, gates), [asked], shown([prompted]))[0]

    assert bias(sample, one) == bias(one, one) != bias(sample, sample)
    # A closed book tells nothing of what it hides.
    opening, refusal, *_ = first_tokens(tokenizer)
    assert bias(sample, none) == Bias(opening, ((refusal, 0.5),))


def test_a_gate_of_other_features_is_refused(samples):
    with pytest.raises(DataError, match="refuse_question has 2 weights for .* fit it again"):
        gate_log_odds({"refuse_question": Gate([1.0, 2.0], 0.0)}, samples)


def test_settings_without_gates_are_those_of_before_there_were_any(home):
    (home / "sft").mkdir(exist_ok=True)
    plain = {"refuse_claim": 1.0, "refuse_question": 2.0, "refuted": 3.0}
    gates = {"gates": {"refuted": {"weights": [1.5], "intercept": -1.0, "factor": 0.5}}}
    gated = Decisions(1.0, 2.0, 3.0, {"refuted": Gate([1.5], -1.0, 0.5)})
    for decisions, fields in ((Decisions(1.0, 2.0, 3.0), plain), (gated, plain | gates)):
        write_calibration(home, decisions)
        settings = decision_settings("fitted", "sft/checkpoint-best")
        assert settings == {"decisions": "fitted", "biases": fields}
        assert decisions_of(settings) == decisions


@pytest.mark.parametrize("unknown", ["refute_question", "gates.refuted.note", "gates.maybe"])
def test_decisions_of_a_later_version_are_named(unknown, home):
    (home / "sft").mkdir(exist_ok=True)
    write_calibration(home, Decisions(1.0, 2.0, 3.0, {"refuted": Gate([1.5], -1.0, 0.5)}))
    path = home / "sft/calibration.json"
    calibration = read_json(path)
    fields = calibration["decisions"]["biases"]
    *outer, last = unknown.split(".")
    for name in outer:
        fields = fields[name]
    fields[last] = {"weights": [1.0], "intercept": 0.0, "factor": 1.0} if last == "maybe" else 1.0
    write_json(path, calibration)
    with pytest.raises(DataError, match=f"calibration.json: field 'decisions.biases.{unknown}': unknown"):
        decision_settings("fitted", "sft/checkpoint-best")


def test_a_tokenizer_that_begins_all_answers_alike_is_refused(monkeypatch):
    from generation import decisions

    monkeypatch.setattr(decisions, "encode_plain", lambda tokenizer, text: [5, 6])
    with pytest.raises(StageError, match="same token"):
        first_tokens(object())


# --- the fit


def outcome(answer, answerable=True, citations=(0,)):
    """The terms of a completion: gold is `yes`, in chunk 0."""
    sample = {
        "answerable": answerable,
        "answer_aliases": ["yes"] if answerable else [],
        "support_sets": [[0]] if answerable else [],
        "support_spans": [0] if answerable else [],
    }
    is_refusal = answer == REFUSAL
    parsed = Parsed(answer, [] if is_refusal else list(citations), 0.5, [], is_refusal=is_refusal)
    return score_sample(parsed, True, sample)


def question(group, log_odds, answerable, is_right=True, is_claim=False):
    """A question whose refusal has these log-odds against its answer."""
    refused = outcome(REFUSAL, answerable)
    answered = outcome("yes" if is_right else "no", answerable)
    branches = [Branch(1, log_odds, refused), Branch(2, 0.0, answered)]
    if is_claim:
        branches.append(Branch(3, -9.0, outcome("no", answerable)))
    return Decided(str(group), is_claim, branches)


def claim(group, log_odds, is_refuted):
    """An answerable claim whose `refuted` has these log-odds against `supported`."""
    right, wrong = outcome("yes"), outcome("no")
    verdicts = [wrong, right] if is_refuted else [right, wrong]
    branches = [Branch(1, -9.0, outcome(REFUSAL)), Branch(2, 0.0, verdicts[0])]
    return Decided(str(group), True, [*branches, Branch(3, log_odds, verdicts[1])])


def made_up(rng, n, shift, is_claim=False):
    """Questions of which those with log-odds above `shift`, but for noise, are unanswerable."""
    rows = []
    for i in range(n):
        answerable = bool(rng.random() < 0.6)
        log_odds = shift + rng.normal(-2.0 if answerable else 2.0, 1.0)
        rows.append(question(f"{is_claim}{i}", float(log_odds), answerable, rng.random() < 0.9, is_claim))
    return rows


def test_the_best_biases_are_found_for_each_kind():
    rng = np.random.default_rng(1)
    verdicts = [
        claim(f"v{i}", float(4.0 + rng.normal(2 if i % 2 else -2, 1.0)), i % 2 == 1) for i in range(80)
    ]
    samples = made_up(rng, 120, 3.0) + made_up(rng, 120, -2.5, is_claim=True) + verdicts
    biases, _, val = fit_decisions(samples)
    assert biases.refuse_question == pytest.approx(-3.0, abs=1.0)
    assert biases.refuse_claim == pytest.approx(2.5, abs=1.5)
    assert biases.refuted == pytest.approx(-4.0, abs=1.0)
    # Half of the verdicts are wrong without the bias, and many questions are decided wrongly.
    assert val["plain"]["objective"] + 0.5 < val["cross_validated"]["objective"]
    assert val["plain"]["objective"] + 0.5 < val["fitted"]["objective"]
    assert val["fitted"]["refusal_f1"] > 0.9
    # No other biases are much better: the optimum of a finer search, which follows every sample.
    table = decided.table_of(samples)
    names = list(samples[0].branches[0].terms)
    best = 0.0
    for a, b, c in np.ndindex(7, 7, 7):
        tried = Decisions(2.5 + 0.5 * (a - 3), -3.0 + 0.5 * (b - 3), -4.0 + 0.5 * (c - 3))
        sums = decided.sums_of(table.terms, decided.decide_table(table, tried))
        best = max(best, float(decided.objective(decided.rates_of(sums, names))))
    assert val["fitted"]["objective"] > best - 0.05


def gated(rng, rows, spread):
    """The rows with log-odds of gates that know what is unanswerable, or refuted, but for this much noise."""
    found = []
    for row in rows:
        is_answerable = row.branches[0].terms["answerable"]
        refuse = rng.normal(-1.5 if is_answerable else 1.5, spread)
        is_refuted = row.is_claim and row.branches[2].terms["em_answerable"]
        refuted = rng.normal(1.5 if is_refuted else -1.5, spread) if row.is_claim else 0.0
        found.append(row._replace(refuse_odds=float(refuse), refuted_odds=float(refuted)))
    return found


def test_a_gate_is_worth_what_it_knows_beside_the_model():
    rng = np.random.default_rng(5)
    noisy = []
    for row in made_up(rng, 120, 1.0) + made_up(rng, 120, -1.0, is_claim=True):
        refused = row.branches[0]
        refused = refused._replace(logp=refused.logp + rng.normal(0, 3))
        noisy.append(row._replace(branches=[refused, *row.branches[1:]]))
    noisy += [claim(f"v{i}", float(rng.normal(1 if i % 2 else -1, 3.0)), i % 2 == 1) for i in range(80)]
    _, factors, val_without = fit_decisions(noisy)
    assert not factors
    knowing = gated(rng, noisy, 1.0)
    biases, factors, val = fit_decisions(knowing)
    # Log-odds of the model are worth little here, so those of the gates count several times.
    assert min(factors.values()) > 1.5 and len(factors) == 3
    assert val["plain"] == val_without["plain"]
    assert val["cross_validated"]["objective"] > val_without["cross_validated"]["objective"] + 0.1
    # What was looked up is what `decide` finds.
    choices = decide(knowing, biases, factors)
    right = [bool(row.branches[k].terms["refused_unanswerable"]) for row, k in zip(knowing, choices)]
    unanswerable = [not row.branches[0].terms["answerable"] for row in knowing]
    assert val["fitted"]["under_refusal_rate"] == pytest.approx(1 - sum(right) / sum(unanswerable))
    # A gate that knows nothing hardly moves a decision, or none.
    blind = [row._replace(refuse_odds=float(rng.normal(0, 1.5))) for row in noisy]
    _, factors, _ = fit_decisions(blind)
    assert max(factors.values(), default=0.0) < 0.6
    # Too few of a kind to fit a factor to.
    few = gated(rng, made_up(rng, 30, 0.0), 0.1)
    assert not any(fit_decisions(few)[1].values())


def test_the_metrics_are_those_of_the_chosen_branches():
    samples = [
        question(0, 1.0, False),
        question(1, -1.0, True),
        question(2, 2.0, True),
        question(3, 1, True, False),
    ]
    assert decide(samples, Decisions(), {}) == [0, 1, 0, 0]
    assert decide(samples, Decisions(refuse_question=-1.5), {}) == [1, 1, 0, 1]
    assert decide(samples, Decisions(refuse_claim=-9.0, refuted=9.0), {}) == [0, 1, 0, 0]
    _, _, val = fit_decisions(samples)
    # Right refusal and right answer of four samples, of which three can be answered.
    assert val["plain"]["net_score"] == 0.5
    assert val["plain"]["em_answerable"] == pytest.approx(1 / 3)
    assert val["plain"]["over_refusal_rate"] == pytest.approx(2 / 3)


def test_equal_logits_go_to_the_token_of_the_lower_id():
    tied = question(0, 0.0, True)
    assert decide([tied], Decisions(), {}) == [0]
    refusal, answer = tied.branches
    assert decide([tied._replace(branches=[refusal._replace(token=9), answer])], Decisions(), {}) == [1]


def test_biases_that_do_not_help_other_groups_stay_zero():
    rng = np.random.default_rng(3)
    # Decided well already; what is left is noise.
    biases, _, val = fit_decisions(made_up(rng, 60, 0.0))
    helps = val["cross_validated"]["objective"] > val["plain"]["objective"]
    assert (biases == Decisions()) is not helps
    few = made_up(rng, fitting.MIN_SAMPLES - 1, 8.0) + made_up(rng, 100, 4.0, is_claim=True)
    biases, _, _ = fit_decisions(few)
    assert biases.refuse_question == 0.0 and biases.refuse_claim < -2.0
    one_group = [row._replace(group="same") for row in made_up(rng, 60, 4.0)]
    assert fit_decisions(one_group)[0] == Decisions()


def test_samples_of_a_group_are_in_one_fold(monkeypatch):
    # Twins that were in two folds would tell each other's answer.
    seen = []
    fit = fitting._fit
    monkeypatch.setattr(fitting, "_fit", lambda table, names: seen.append(table) or fit(table, names))
    rows = made_up(np.random.default_rng(0), 40, 3.0)
    samples = [row._replace(group=str(i % 5)) for i, row in enumerate(rows)]
    fit_decisions(samples)
    assert [len(table.scores) for table in seen[:5]] == [32] * 5


# --- a checkpoint


@pytest.fixture(scope="module")
def trained(make_model, tokenizer, samples):
    """A tiny model that learned to open a completion, and little more.

    It reads whole prompts at a falling rate: then it opens every completion by a wide margin, so that no
    processor's rounding decides about it. Half of its rows are refusals, but only three of 18 teach to
    decide for one: it refuses little of its own, and knows how a refusal goes on.
    """
    torch.manual_seed(1)
    model = copy.deepcopy(make_model("llama")).train()
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)
    answered = [sample for sample in samples if sample["answerable"]]
    refused = [sample for sample in samples if not sample["answerable"]]
    n_opening = len(first_tokens(tokenizer).opening)
    rows = []
    for i in range(18):
        for sample in (answered[i], refused[i]):
            prompt = builder.build(sample)
            completion = encode_completion(tokenizer, gold_completion(sample, prompt.shown))
            completion = [*completion, end_id(tokenizer)]
            labels = list(completion)
            if sample is refused[i] and i % 6:
                labels[n_opening] = -100
            rows.append((prompt.ids, completion, labels))
    n_steps = 300
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, n_steps)
    for step in range(n_steps):
        for prompt, completion, labels in (rows[2 * step % len(rows)], rows[(2 * step + 1) % len(rows)]):
            ids = torch.tensor([prompt + completion])
            model(input_ids=ids, labels=torch.tensor([[-100] * len(prompt) + labels])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        rate.step()
    return model.eval()


@pytest.fixture(scope="module")
def builder(tokenizer):
    return PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1500)


def rows_of(model, builder, samples, biases, **options):
    settings = GenerationSettings(**{"batch_size": 3, "max_new_tokens": 60, **options}, biases=biases)
    prompts = {sample["id"]: builder.build(sample) for sample in samples}
    found = {}
    for batch in predict(model, builder.tokenizer, prompts, "sft", settings):
        found |= {row["id"]: row["completion"] for row in batch}
    return [found[sample["id"]] for sample in samples]


def test_fitted_biases_generate_what_was_looked_up(trained, builder, samples):
    chosen = samples[:40]
    prompts = [builder.build(sample) for sample in chosen]
    completions = complete_branches(trained, builder.tokenizer, chosen, prompts, 7)
    fitted = fit_to_answers(trained, builder, chosen, 7)
    assert fitted["n_samples"] + fitted["n_left_out"] == 40 and fitted["n_left_out"] < 8
    assert fitted["n_claims"] == sum(bool(claim_of(sample)) for sample in chosen)

    n = len(first_tokens(builder.tokenizer).opening)
    for decisions in (Decisions(), Decisions(1.0, 0.5, -0.5), Decisions(-2.0, -1.0, 3.0)):
        added = [
            [decisions.refuse_claim, 0.0, decisions.refuted]
            if claim_of(s)
            else [decisions.refuse_question, 0.0]
            for s in chosen
        ]
        looked_up = []
        margins = []
        for numbers, of_sample in zip(added, completions):
            scores = [one.logps[n] + number for one, number in zip(of_sample, numbers)]
            looked_up.append(of_sample[int(np.argmax(scores))].ids)
            margins.append(np.diff(sorted(scores))[-1])
        biases = decision_biases(builder.tokenizer, decisions, chosen, prompts)
        texts = rows_of(trained, builder, chosen, biases)
        expected = [builder.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in looked_up]
        clear = [i for i, margin in enumerate(margins) if margin > 1e-3]
        assert len(clear) > 35
        assert [texts[i] for i in clear] == [expected[i] for i in clear]


def test_a_model_that_never_opens_an_answer_has_nothing_to_fit(model, builder, samples):
    with pytest.raises(DataError, match="none of 3 val completions opens"):
        fit_to_answers(model, builder, samples[:3], 3)


@pytest.fixture
def checkpoint(trained, tokenizer, home):
    """A full model as a checkpoint of a run in the home, with fitted decisions that refuse every question."""
    folder = home / "sft/checkpoint-best"
    trained.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_calibration(home, Decisions(50.0, 50.0, 0.0))
    return folder


def write_calibration(home, decisions=None):
    plain = {"n_samples": 2, "isotonic": None, "answers": [], "precision": "torch.float32"}
    if decisions:
        under = {"n_samples": 2, "isotonic": {"x": [0.0, 1.0], "y": [0.2, 0.9], "n": 2}, "answers": []}
        plain["decisions"] = {"biases": decisions_json(decisions), "calibration": under}
    (home / "sft/calibration.json").write_text(json.dumps(plain))


def test_calibrate_adds_decisions_to_a_finished_run(checkpoint, home, capsys, monkeypatch):
    mark_whole(checkpoint, {"template": "default", "step": 1})
    write_calibration(home)
    before = json.loads((home / "sft/calibration.json").read_text())
    (home / "c.yaml").write_text(
        f"model_name: {checkpoint}\noutput_dir: sft\n"
        "data: {train_path: missing.jsonl, val_path: data/processed/val.jsonl, max_calibration_samples: 24}\n"
    )
    command = ["-c", str(home / "c.yaml"), "--calibrate"]
    monkeypatch.setattr("sys.argv", ["/somewhere/train_sft.py", "-c", "c.yaml", "--calibrate"])
    train_sft.main(command)
    after = json.loads((home / "sft/calibration.json").read_text())
    fitted = after.pop("decisions")
    assert after == before
    assert set(fitted["biases"]) == {"refuse_claim", "refuse_question", "refuted"}
    assert set(fitted["val"]) == {"plain", "fitted", "cross_validated"}
    assert fitted["command"] == ["train_sft.py", "-c", "c.yaml", "--calibrate"]
    assert fitted["n_samples"] + fitted["n_left_out"] == 24
    captured = capsys.readouterr()
    assert "; on " in captured.out and "--decisions fitted" in captured.err
    assert "missing.jsonl: missing, so decisions are fitted without gates" in captured.err
    # The same again has nothing to do; another number of samples, or --overwrite, has.
    train_sft.main(command)
    assert capsys.readouterr().out.startswith("nothing to do: ")
    for flags in (["--overwrite"], ["--set", "data.max_calibration_samples=20"]):
        train_sft.main([*command, *flags])
        assert capsys.readouterr().out.startswith("wrote ")
    (home / "sft/calibration.json").unlink()
    with pytest.raises(DataError, match="run to its end first"):
        train_sft.main(command)


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_evaluation_with_fitted_decisions(checkpoint, home, capsys):
    flags = ["--model-path", str(checkpoint), "--base-model", str(checkpoint), "--compare-baseline"]
    flags += ["--constrained", "--test-data", "data/processed/test.jsonl", "--limit", "4"]
    flags += ["--max-new-tokens", "40", "--output", "out.json"]
    evaluate_sft_fast_robust.main([*flags, "--decisions", "fitted"])
    rows = read_rows(home / "out_predictions.jsonl")
    refused = {row["model"]: [] for row in rows}
    # What follows the first words of a refusal is up to the model, which learned little.
    for row in rows:
        refused[row["model"]].append(row["completion"].startswith('{"answer": "[INS'))
    assert all(refused["sft"] + refused["sft_constrained"])
    # The numbers belong to the checkpoint, and the base model has the same weights here.
    assert not all(refused["base"] + refused["base_constrained"])
    settings = json.loads((home / "out.json").read_text())["run"]["settings"]
    assert settings["decisions"] == "fitted" and settings["biases"]["refuse_claim"] == 50.0
    evaluate_sft_fast_robust.main([*flags, "--decisions", "fitted"])
    assert "is complete with these settings" in capsys.readouterr().out
    with pytest.raises(UsageError, match="decisions"):
        evaluate_sft_fast_robust.main(flags)
    write_calibration(home)
    with pytest.raises(DataError, match="--calibrate"):
        evaluate_sft_fast_robust.main([*flags, "--decisions", "fitted"])


def test_what_never_refuses_chooses_between_two_verdicts_and_bans_brackets(tokenizer, samples):
    claims = [sample for sample in samples if claim_of(sample)][:2]
    others = [sample for sample in samples if not claim_of(sample)][:2]
    decisions = Decisions(answers=True)
    assert decisions_of({"biases": decisions_json(decisions)}) == decisions
    biases = decision_biases(tokenizer, decisions, [*claims, *others], shown([*claims, *others]))
    _, refusal, refuted, supported = first_tokens(tokenizer)
    for bias in biases[:2]:
        assert dict(bias.added) == {supported: 1000.0, refuted: 1000.0}
    for bias in biases[2:]:
        banned = dict(bias.added)
        assert refusal in banned and set(banned.values()) == {-math.inf}
        assert supported not in banned and refuted not in banned


def test_a_checkpoint_that_may_not_refuse(checkpoint, home):
    flags = ["--model-path", str(checkpoint), "--test-data", "data/processed/test.jsonl", "--limit", "4"]
    flags += ["--max-new-tokens", "40", "--output", "answers.json", "--decisions", "answer"]
    with pytest.raises(UsageError, match="--decisions answer"):
        evaluate_sft_fast_robust.main([*flags, "--wanted-precision", "0.9"])
    evaluate_sft_fast_robust.main(flags)
    rows = read_rows(home / "answers_predictions.jsonl")
    assert rows and not any(REFUSAL in row["completion"] for row in rows)


@pytest.mark.parametrize("script", [evaluate_sft_fast_robust, robustness])
def test_results_from_before_the_flag_are_plain_ones(script, checkpoint, home, monkeypatch, capsys):
    keys = []
    log = script.ShardLog
    monkeypatch.setattr(
        script, "ShardLog", lambda path, key, shards: keys.append(key) or log(path, key, shards)
    )
    flags = ["--model-path", str(checkpoint), "--test-data", "data/processed/test.jsonl", "--limit", "2"]
    flags += ["--max-new-tokens", "4", "--output", "old.json"]
    flags += ["--suite", "order"] if script is robustness else []
    script.main(flags)
    assert not {"decisions", "biases"} & set(keys[0])
    results = json.loads((home / "old.json").read_text())
    del results["run"]["settings"]["decisions"]
    (home / "old.json").write_text(json.dumps(results))
    capsys.readouterr()
    for again in (flags, [*flags, "--decisions", "plain"]):
        script.main(again)
        assert "is complete with these settings" in capsys.readouterr().out


def test_robustness_candidates_and_questions_with_fitted_decisions(checkpoint, home):
    data = ["--limit", "2", "--max-new-tokens", "40", "--decisions", "fitted"]
    flags = ["--model-path", str(checkpoint), "--test-data", "data/processed/test.jsonl", "--suite", "order"]
    robustness.main([*flags, *data])
    rows = read_rows(home / "robustness_predictions.jsonl")
    assert rows and all(row["answer"] == REFUSAL for row in rows)

    flags = ["--phase", "generate", "--sft-model", str(checkpoint), "--base-model", str(checkpoint)]
    flags += ["--models", "sft,base"]
    make_prefs.main([*flags, "--data-path", "data/processed/val.jsonl", *data])
    [cache] = (home / "prefs/cache").glob("*")
    manifest = json.loads((cache / "manifest.json").read_text())
    assert manifest["settings"]["biases"]["refuse_question"] == 50.0
    texts = {
        name: [row["completion"] for row in read_rows(cache / f"gens_{name}.jsonl")]
        for name in ("sft", "base")
    }
    assert all(REFUSAL in text for text in texts["sft"]) and not all(
        REFUSAL in text for text in texts["base"]
    )

    documents = read_documents([str(ROOT / "data/ask/tide_mill.md")])
    for flag in (None, "fitted", "answer"):
        settings = ask_settings(checkpoint, decisions=flag, say=lambda line: None)
        asker = load_asker(str(checkpoint), settings)
        found = {
            asker.ask(text, documents).status for text in ("Who built the mill?", "claim: It is closed.")
        }
        assert ("answered" not in found) if flag == "fitted" else (found != {"refused"})
    write_calibration(home)
    with pytest.raises(DataError, match="--calibrate"):
        ask_settings(checkpoint, decisions="fitted", say=lambda line: None)


@pytest.mark.parametrize(
    "script, flags",
    [
        (evaluate_sft_fast_robust, "--test-data data/processed/test.jsonl --limit 4 --model-path"),
        (robustness, "--test-data data/processed/test.jsonl --limit 4 --suite order --model-path"),
        (make_prefs, "--phase generate --data-path data/processed/val.jsonl --limit 4 --sft-model"),
    ],
)
def test_a_plan_is_refused_where_the_run_would_be(script, flags, checkpoint, home, capsys):
    plan = [*flags.split(), str(checkpoint), "--base-model", str(checkpoint)]
    plan += ["--decisions", "fitted", "--dry-run"]
    script.main(plan)
    assert "would write" in capsys.readouterr().out
    write_calibration(home)
    said = []
    for command in (plan, plan[:-1]):
        with pytest.raises(DataError, match="no decisions were fitted") as refused:
            script.main(command)
        said.append(str(refused.value))
    assert said[0] == said[1]
    # A checkpoint that a training will write has no decisions yet either.
    plan[plan.index(str(checkpoint))] = "checkpoints/sft/later/checkpoint-best"
    script.main(plan)
    assert "does not exist yet" in capsys.readouterr().out


def test_a_planned_threshold_needs_the_val_answers_of_the_run(checkpoint):
    flags = ["--model-path", str(checkpoint), "--test-data", "data/processed/test.jsonl"]
    with pytest.raises(DataError, match="--wanted-precision needs the val answers"):
        evaluate_sft_fast_robust.main([*flags, "--wanted-precision", "0.9", "--dry-run"])


def test_a_confidence_is_that_of_the_answers_under_the_decisions(tmp_path):
    place = tmp_path / "sft"
    place.mkdir()
    model_path = str(place / "checkpoint-best")
    plain = {"x": [0.0], "y": [0.5]}
    fitted = {"x": [0.0], "y": [0.6]}
    answers = [{"stated": None, "probability": 0.5, "right": True}]
    stored = {"isotonic": plain, "answers": [], "precision": "p"}
    (place / "calibration.json").write_text(json.dumps(stored))
    assert read_calibration(model_path) == read_calibration(model_path, "plain") == stored
    with pytest.raises(DataError, match="no decisions were fitted"):
        read_calibration(model_path, "fitted")
    # Completions of a file alone have no fit, however they were made.
    assert read_calibration(None, "fitted") == {}
    of_decisions = {"isotonic": fitted, "answers": answers}
    stored["decisions"] = {"biases": dataclasses.asdict(Decisions()), "calibration": of_decisions}
    (place / "calibration.json").write_text(json.dumps(stored))
    assert read_calibration(model_path, "fitted") == {**stored, **of_decisions}
    assert read_calibration(model_path)["isotonic"] == plain


def test_decisions_have_the_precision_and_the_step_of_their_own_fit(tmp_path, capsys):
    place = tmp_path / "sft/checkpoint-best"
    place.mkdir(parents=True)
    (place / "run.json").write_text(json.dumps({"step": 10}))
    biases = dataclasses.asdict(Decisions())
    fitted = {"biases": biases, "calibration": {}, "precision": "float32", "step": 10}
    stored = {"isotonic": {"x": [0.0], "y": [0.5]}, "precision": "bfloat16", "step": 20, "decisions": fitted}
    (place.parent / "calibration.json").write_text(json.dumps(stored))
    assert read_calibration(str(place), "fitted")["precision"] == "float32"
    assert read_decisions(str(place)) == Decisions()
    assert "fitted to step" not in capsys.readouterr().err
    final = place.with_name("checkpoint-final")
    final.mkdir()
    (final / "run.json").write_text(json.dumps({"step": 20}))
    read_calibration(str(final), "fitted")
    assert "decisions are fitted to step 10, and" in capsys.readouterr().err


def test_a_merged_model_has_the_fits_of_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "sft/checkpoint-best").mkdir(parents=True)
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/run.json").write_text(json.dumps({"merged_from": "sft/checkpoint-best"}))
    assert calibration_path("merged") == tmp_path / "sft/calibration.json"
    shutil.rmtree(tmp_path / "sft")
    assert calibration_path("merged") == tmp_path / "calibration.json"


def test_a_fit_of_another_step_is_pointed_out(tmp_path, capsys):
    fit = {"isotonic": {"x": [0.0], "y": [0.5]}, "step": 30}
    for step in (30, 20):
        place = tmp_path / f"at_{step}/checkpoint-best"
        place.mkdir(parents=True)
        (place / "run.json").write_text(json.dumps({"step": step}))
        (place.parent / "calibration.json").write_text(json.dumps(fit))
        read_calibration(str(place))
    said = capsys.readouterr().err
    assert "fitted to step 30, and" in said and "at_20/checkpoint-best is step 20" in said
    assert "at_30/checkpoint-best is" not in said


def test_vllm_refuses_fitted_decisions_in_one_line():
    from models.choices import check_engine

    flags = types.SimpleNamespace(engine="vllm", decisions="fitted", dry_run=True)
    with pytest.raises(UsageError, match="--engine vllm takes no --decisions: .*use --engine ours"):
        check_engine(flags)
