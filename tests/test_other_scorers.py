"""Our metrics against other packages on random data; completeness and joint scores against the papers."""

import random

import numpy as np
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from evaluation.confidence import confidence_intervals
from utils.calibration import apply_isotonic, aurc, brier, expected_calibration_error, fit_isotonic
from utils.completions import parse_completion, render_completion
from utils.correctness import exact_match, token_overlap
from utils.intervals import draw_counts, group_sums, mean_with_interval, resample, with_intervals
from utils.metrics import rates_from_sums
from utils.scoring import citation_scores, f1_of, score_sample

WORDS = (
    "the a an Warsaw warsaw, old town! 1867 1,867 Marie-Curie U.S. naïve Łódź new york's of (see) and".split()
)


def random_text(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(0, 5)))


def test_em_and_f1_equal_torchmetrics_squad_on_1000_random_pairs():
    squad = pytest.importorskip("torchmetrics.functional.text").squad
    rng = random.Random(0)
    for i in range(1000):
        given = random_text(rng)
        aliases = [random_text(rng) for _ in range(rng.randint(1, 3))]
        target = {"answers": {"answer_start": [0] * len(aliases), "text": aliases}, "id": str(i)}
        theirs = squad([{"prediction_text": given, "id": str(i)}], [target])
        assert exact_match(given, aliases) == float(theirs["exact_match"]) / 100, (given, aliases)
        # Theirs takes the best F1 and EM each over the aliases, as SQuAD does.
        ours = max(token_overlap(given, alias)[2] for alias in aliases)
        assert ours == pytest.approx(float(theirs["f1"]) / 100, abs=1e-6), (given, aliases)


def test_ece_equals_torchmetrics():
    torch = pytest.importorskip("torch")
    calibration_error = pytest.importorskip("torchmetrics.functional.classification").binary_calibration_error
    rng = np.random.default_rng(0)
    for n in (1, 7, 100, 5000):
        # torchmetrics has a separate bin for a confidence of exactly 1.0, which our last bin includes: none
        # is drawn here.
        confidence = rng.random(n)
        right = rng.random(n) < 0.4
        labels = torch.tensor(right.astype(int))
        theirs = calibration_error(torch.tensor(confidence), labels, n_bins=15, norm="l1")
        ours = expected_calibration_error(confidence.tolist(), right.tolist())
        # torchmetrics computes in float32.
        assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_brier_equals_scikit_learn():
    rng = np.random.default_rng(1)
    confidence = rng.random(500)
    right = rng.random(500) < 0.6
    assert brier(confidence.tolist(), right.tolist()) == pytest.approx(brier_score_loss(right, confidence))


def test_isotonic_fit_equals_scikit_learns_between_and_beyond_its_knots():
    rng = np.random.default_rng(2)
    x = rng.random(300)
    right = rng.random(300) < 0.5
    knots = fit_isotonic(x.tolist(), right.tolist())
    theirs = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(x, right)
    at = np.linspace(-0.2, 1.2, 400)
    assert apply_isotonic(knots, at.tolist()) == pytest.approx(theirs.predict(at).tolist())


def test_roc_auc_is_the_share_of_pairs_in_order_ties_half():
    """The reward model reports scikit-learn's ROC-AUC; this is what that figure counts."""
    rng = np.random.default_rng(3)
    good = rng.integers(0, 20, 80)
    bad = rng.integers(0, 15, 90)
    pairs = (good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean()
    assert roc_auc_score([1] * 80 + [0] * 90, [*good, *bad]) == pytest.approx(pairs)


def test_aurc_by_brute_force_over_all_orders_of_ties():
    """AURC with ties averaged equals the mean over random orders of equal confidences."""
    rng = np.random.default_rng(4)
    confidence = rng.integers(0, 4, 12) / 4
    right = rng.random(12) < 0.5
    found = []
    for _ in range(20_000):
        order = np.lexsort((rng.random(12), -confidence))
        found.append((np.cumsum(~right[order]) / np.arange(1, 13)).mean())
    assert aurc(confidence.tolist(), right.tolist()) == pytest.approx(np.mean(found), abs=0.003)


def test_intervals_equal_scipys_percentile_bootstrap_within_noise():
    rng = np.random.default_rng(5)
    values = rng.random(300) ** 2
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=6
    ).confidence_interval
    _, ours = mean_with_interval(values.tolist(), [str(i) for i in range(300)], seed=7)
    # The ends of a percentile interval of 5,000 resamples scatter by about 4% of the interval's width.
    width = theirs.high - theirs.low
    assert ours == pytest.approx([theirs.low, theirs.high], abs=0.08 * width)


def test_intervals_of_ratios_equal_scipys_paired_bootstrap_of_group_sums():
    rng = np.random.default_rng(8)
    rows = [{"top": float(rng.random() < 0.4), "bottom": float(rng.random() < 0.8)} for _ in range(600)]
    groups = [str(i // 3) for i in range(600)]
    sums = group_sums(rows, groups)
    theirs = stats.bootstrap(
        (sums["top"], sums["bottom"]),
        lambda a, b, axis=-1: a.sum(axis) / b.sum(axis),
        paired=True,
        n_resamples=5000,
        method="percentile",
        rng=9,
    ).confidence_interval
    drawn = draw_counts(200, 10).astype(float) @ np.stack([sums["top"], sums["bottom"]], axis=1)
    ours = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    assert ours.tolist() == pytest.approx([theirs.low, theirs.high], abs=0.08 * (theirs.high - theirs.low))


def test_confidence_intervals_equal_a_plain_loop_over_the_same_draws():
    rng = np.random.default_rng(11)
    confidence = [None if rng.random() < 0.2 else float(rng.integers(0, 11) / 10) for _ in range(120)]
    right = (rng.random(120) < 0.5).tolist()
    groups = [f"{i % 40:02d}" for i in range(120)]
    counts = draw_counts(40, 3)[:400]
    loops = {"ece": [], "brier": [], "aurc": []}
    for draw in counts:
        # A sample as often as its group was drawn.
        drawn = np.repeat(np.arange(120), [int(draw[int(group)]) for group in groups])
        drawn = [i for i in drawn if confidence[i] is not None]
        c = [confidence[i] for i in drawn]
        r = [right[i] for i in drawn]
        for name, figure in (("ece", expected_calibration_error), ("brier", brier), ("aurc", aurc)):
            loops[name].append(figure(c, r))
    found = confidence_intervals(confidence, right, groups, 3)
    for name, values in loops.items():
        low, high = np.percentile(values, [2.5, 97.5])
        assert found[name] == pytest.approx([low, high], abs=0.15 * (high - low)), name


def test_every_drawn_group_counts_once_per_draw():
    counts = draw_counts(50, 1)
    assert counts.shape == (5000, 50) and (counts.sum(axis=1) == 50).all() and abs(counts.var() - 0.98) < 0.03
    # Fewer resamples for many groups, but never under 1,000. The matrix takes 240 MB: free it at once.
    assert draw_counts(60_000, 1).shape[0] == 1000
    draw_counts.cache_clear()


def test_resamples_without_a_needed_class_are_skipped_and_counted(sample):
    right = parse_completion('{"answer": "Warsaw", "citations": [0], "confidence": 0.9}', 4)
    refusal = parse_completion('{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [], "confidence": 0.0}', 4)
    terms = [score_sample(right, True, sample)] * 25
    refused = score_sample(refusal, True, {**sample, "answerable": False})
    found = with_intervals([*terms, refused], [str(i) for i in range(26)], seed=0)
    # One of 26 groups is unanswerable: (25/26)^26 = 36% of the resamples lack it.
    assert found["ci95_skipped"]["under_refusal_rate"] == pytest.approx(0.36 * 5000, rel=0.06)
    assert found["ci95"]["under_refusal_rate"] == [0.0, 0.0]


@pytest.mark.parametrize(
    "cited, sets, complete",
    [
        # FEVER: a verdict counts when one full evidence set is among the predicted sentences.
        ([0], [[0, 1]], 0.0),
        ([0, 1], [[0, 1]], 1.0),
        ([2], [[0, 1], [2]], 1.0),
        ([0, 2], [[0, 1], [2]], 1.0),
        # FEVER accepts up to five sentences; here none may be outside the support.
        ([2, 3], [[0, 1], [2]], 0.0),
    ],
)
def test_completeness_as_in_the_fever_scorer(cited, sets, complete):
    spans = sorted({i for s in sets for i in s})
    assert citation_scores(cited, sets, spans)[3] == complete


def test_joint_f1_as_in_hotpotqa():
    # HotpotQA: joint precision = answer precision x support precision, and so for recall.
    # Here 2/3 x 1/2 and 1 x 1/2.
    precision, recall, _ = token_overlap("old Warsaw town", "Warsaw town")
    cited = citation_scores([0, 3], [[0, 1]], [0, 1])
    assert (precision, recall) == pytest.approx((2 / 3, 1.0)) and cited[:2] == (0.5, 0.5)
    # Harmonic mean of 1/3 and 1/2 = 0.4.
    assert float(f1_of(precision * cited[0], recall * cited[1])) == pytest.approx(0.4)


def test_rates_of_resamples_are_the_rates_of_summed_terms(sample):
    rng = np.random.default_rng(12)
    terms = []
    for _ in range(60):
        text = render_completion(rng.choice(["Warsaw", "Paris"]), [int(rng.integers(0, 4))], 0.9)
        terms.append(score_sample(parse_completion(text, 4), True, sample))
    sums = group_sums(terms, [str(i // 2) for i in range(60)])
    drawn = resample(sums, 13)
    counts = draw_counts(30, 13)[17].astype(float)
    alone = rates_from_sums({name: counts @ values for name, values in sums.items()})
    assert all(drawn[name][17] == pytest.approx(float(alone[name]), rel=1e-5, nan_ok=True) for name in drawn)
