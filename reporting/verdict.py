"""The result of an evaluation in one sentence, and what that sentence leaves out.

It reads a results object and returns text: no file, no HTML. The differences and their intervals were
computed by `utils/intervals.py`; here they are only put into words.
"""

import textwrap

from evaluation.columns import TERMINAL_COLUMNS
from evaluation.tables import all_models, strongest_baseline, verdict
from utils.metrics import DELTA_METRICS

# The metric that decides: it counts right answers, refusals and wrong answers at once, so that neither
# refusing everything nor answering everything wins.
DECIDES = "net_score"
NET_SCORE = "net score: +1 for a right answer or refusal, 0 for another refusal, -1 for anything wrong"


def _bounds(low: float, high: float, sign: str = "") -> str:
    return f"95% interval {low:{sign}.3f} to {high:{sign}.3f}"


def comparison(name: str, difference: float, interval: list[float] | None) -> str:
    """How the model compares with another one: "better than NAME by 0.200 (95% interval 0.100 to 0.300)"."""
    words = verdict(difference, interval)
    if interval is None:
        return f"undecided against {name} ({difference:+.3f}, {words})"
    low, high = interval
    if words == "better":
        return f"better than {name} by {difference:.3f} ({_bounds(low, high)})"
    if words == "worse":
        # By how much it is worse: the bounds change their signs, and with them their order.
        return f"worse than {name} by {-difference:.3f} ({_bounds(-high, -low)})"
    return f"tied with {name} ({difference:+.3f}, {_bounds(low, high, '+')})"


def _opponents(results: dict) -> dict[str, str]:
    """Name in the results -> name in the sentence, of the models that the sentence compares with."""
    others = results.get("deltas_to", {})
    named = {}
    if "base" in others:
        named["base"] = "its base"
    strongest = strongest_baseline(results)
    if strongest and strongest in others:
        named[strongest] = f"{strongest}, the strongest rule without a model"
    return named


def verdict_sentence(results: dict) -> str:
    """The verdict on the SFT model: against its base model, and against the strongest rule."""
    if "sft" not in results:
        names = ", ".join(all_models(results)) or "none"
        return f"No verdict: the evaluation has no model named sft (models: {names})."
    parts = []
    for name, shown in _opponents(results).items():
        deltas = results["deltas_to"][name]
        parts.append(comparison(shown, deltas[DECIDES], deltas["ci95"][DECIDES]))
    score = results["sft"][DECIDES]
    start = f"On {results['sft']['n']:,} samples the SFT model has a net score of {score:.3f}"
    sentence = f"{start}: {' and '.join(parts)}." if parts else f"{start}."
    if "base" not in results.get("deltas_to", {}):
        sentence += " Its base was not evaluated: add --compare-baseline to see what training changed."
    return sentence


def _worse_than_base(results: dict) -> list[str]:
    """The metrics in which the SFT model is worse than its base, with both answered rates."""
    deltas = results.get("deltas_to", {}).get("base")
    if not deltas:
        return []
    worse = []
    for name in DELTA_METRICS:
        if deltas[name] is not None and verdict(deltas[name], deltas["ci95"][name]) == "worse":
            worse.append(f"{name} by {-deltas[name]:.3f}")
    if not worse:
        return []
    # A model that answers nothing hallucinates nothing.
    sft, base = (f"{results[name]['answered_rate']:.0%}" for name in ("sft", "base"))
    return [f"Worse than its base in {', '.join(worse)} (answered: SFT model {sft}, base {base})."]


def _undetectable(results: dict) -> list[str]:
    """How large a difference must be to show, for each tie of the sentence."""
    lines = []
    for name in _opponents(results):
        deltas = results["deltas_to"][name]
        interval = deltas["ci95"][DECIDES]
        smallest = deltas["smallest_detectable"][DECIDES]
        if interval and smallest and verdict(deltas[DECIDES], interval) == "tied":
            lines.append(f"A true difference to {name} under {smallest:.2f} would not show on this test set.")
    return lines


def caveats(results: dict) -> list[str]:
    """What to know beside the sentence, one text each."""
    if "sft" not in results:
        return []
    return [*_worse_than_base(results), *_undetectable(results)]


def verdict_text(results: dict) -> str:
    """Sentence and caveats for a terminal."""
    lines = [verdict_sentence(results), *caveats(results)]
    return "\n".join(textwrap.fill(line, TERMINAL_COLUMNS) for line in lines)
