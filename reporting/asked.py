"""How the model was asked, where that was not plainly: its figures do not compare with those of a plain run.

It reads settings and returns words, for the stages of a report and for the verdict.
"""

# --decisions, where it is not plain: on a stage, and behind "the SFT model".
_DECISIONS = {
    "fitted": ("fitted on val", "with decisions fitted on val"),
    "answer": ("never refuses", "kept from refusing"),
}


def _ways(settings: dict) -> list[tuple[str, str, str]]:
    """(label, what a stage says, what a sentence says) of each way that is not plain."""
    found = []
    if words := _DECISIONS.get(str(settings.get("decisions"))):
        found.append(("decisions", *words))
    if n := settings.get("orders"):
        found.append(
            ("orders", f"what {n} orders of the evidence agree on", f"asked in {n} orders of the evidence")
        )
    return found


def asking_facts(settings: dict) -> list[tuple[str, str]]:
    """(label, value) pairs; none for a model that was asked plainly."""
    return [(label, value) for label, value, _ in _ways(settings)]


def asking_words(settings: dict) -> list[str]:
    """The same as parts of a sentence."""
    return [words for _, _, words in _ways(settings)]
