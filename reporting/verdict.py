"""The result of an evaluation in plain words, in one sentence with numbers, and what that leaves out.

It reads a results object and returns text: no file, no HTML. The differences and their intervals were
computed by `utils/intervals.py`; here they are only put into words.
"""

import textwrap

from evaluation.columns import TERMINAL_COLUMNS
from evaluation.leads import DECIDES
from evaluation.results import ONE_ORDER
from evaluation.tables import all_models, strongest_baseline, verdict
from reporting.asked import asking_words
from utils.metrics import DELTA_METRICS

NET_SCORE = (
    "net score: +1 for a right answer or refusal, 0 for refusing an answerable question, "
    "-1 for anything wrong"
)


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


def _listed(parts: list[str]) -> str:
    """One, "one and two", or "one, two, and three"."""
    if len(parts) < 3:
        return " and ".join(parts)
    return f"{', '.join(parts[:-1])}, and {parts[-1]}"


def _opponents(results: dict) -> dict[str, str]:
    """Name in the results -> name in the sentence, of the models that the sentence compares with."""
    others = results.get("deltas_to", {})
    named = {}
    if "base" in others:
        named["base"] = "its base, asked in one order" if ONE_ORDER in others else "its base"
    if ONE_ORDER in others:
        named[ONE_ORDER] = "itself in one order of the evidence"
    strongest = strongest_baseline(results)
    if strongest and strongest in others:
        named[strongest] = f"{strongest}, the strongest rule without a model"
    return named


def _asked(results: dict) -> str:
    """How the model was asked, in words behind its name; empty where it was asked plainly."""
    parts = asking_words(results.get("run", {}).get("settings", {}))
    return f", {_listed(parts)}," if parts else ""


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
    n = results["sft"]["n"]
    start = f"On {n:,} samples the SFT model{_asked(results)} has a net score of {score:.3f}"
    sentence = f"{start}: {_listed(parts)}." if parts else f"{start}."
    if "base" not in results.get("deltas_to", {}):
        sentence += " Its base was not evaluated: add --compare-baseline to see what training changed."
    return sentence


def _against_silence(results: dict) -> str:
    """How the model compares with refusing everything, which needs no model; empty if not evaluated."""
    deltas = results.get("deltas_to", {}).get("always_refuse")
    if not deltas:
        return ""
    interval = deltas["ci95"][DECIDES]
    if interval is None:
        return "was tried on too few samples to tell whether it is better than refusing everything"
    words = {"better": "is better", "tied": "is no better", "worse": "is worse"}
    return f"{words[verdict(deltas[DECIDES], interval)]} than refusing everything"


def plain_verdict(results: dict) -> str:
    """The evaluation for a newcomer: what it answers, what it refuses, whether that beats doing nothing."""
    metrics = results.get("sft", {})
    parts = []
    if (right := metrics.get("em_answerable")) is not None:
        # EM, as in the tables. The outcomes of the report take other forms of an answer for right, too.
        parts.append(f"answers {right:.0%} of the answerable questions in the words of an accepted answer")
    if (answered := metrics.get("under_refusal_rate")) is not None:
        parts.append(f"refuses {1 - answered:.0%} of the unanswerable ones")
    if parts and (compared := _against_silence(results)):
        parts.append(compared)
    return f"It {_listed(parts)}." if parts else ""


def _worse_than_base(results: dict) -> list[str]:
    """What the SFT model does worse than its base, beside the net score, which the sentence tells."""
    deltas = results.get("deltas_to", {}).get("base")
    if not deltas:
        return []
    lines = []
    for name in DELTA_METRICS:
        if deltas[name] is None or verdict(deltas[name], deltas["ci95"][name]) != "worse":
            continue
        sft, base = (f"{results[model][name]:.0%}" for model in ("sft", "base"))
        if name == "hallucination_rate":
            # A model that answers nothing hallucinates nothing.
            answered = f"the base answers {results['base']['answered_rate']:.0%} of the questions"
            lines.append(f"It makes up answers more often than its base ({sft} against {base}): {answered}.")
        elif name != DECIDES:
            lines.append(f"It is worse than its base in {name} ({sft} against {base}).")
    return lines


def _undetectable(results: dict) -> list[str]:
    """How large a difference must be to show, for each tie of the sentence."""
    lines = []
    for name in _opponents(results):
        deltas = results["deltas_to"][name]
        interval = deltas["ci95"][DECIDES]
        smallest = deltas["smallest_detectable"][DECIDES]
        if interval and smallest and verdict(deltas[DECIDES], interval) == "tied":
            of = f"a difference from {name} of less than {smallest:.2f}"
            lines.append(f"This test set is too small to show {of}.")
    return lines


def caveats(results: dict) -> list[str]:
    """What to know beside the sentence, one text each."""
    if "sft" not in results:
        return []
    return [*_worse_than_base(results), *_undetectable(results)]


def verdict_text(results: dict) -> str:
    """Sentence and caveats for a terminal."""
    lines = [plain_verdict(results), verdict_sentence(results), *caveats(results)]
    return "\n".join(textwrap.fill(line, TERMINAL_COLUMNS) for line in lines if line)
