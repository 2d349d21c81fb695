"""How the model was asked, where that was not plainly: its figures do not compare with those of a plain run.

It reads settings and returns words, for the stages of a report and for the verdict.
"""

# --decisions, where it is not plain: on a stage, and behind "the SFT model".
_DECISIONS = {
    "fitted": ("fitted on val", "with decisions fitted on val"),
    "answer": ("never refuses", "kept from refusing"),
}


def asking_facts(settings: dict) -> list[tuple[str, str]]:
    """(label, value) pairs; none for a model that was asked plainly."""
    facts = []
    if words := _DECISIONS.get(str(settings.get("decisions"))):
        facts.append(("decisions", words[0]))
    if n_orders := settings.get("orders"):
        facts.append(("orders", f"what {n_orders} orders of the evidence agree on"))
    return facts


def asking_words(settings: dict) -> list[str]:
    """The same as parts of a sentence."""
    parts = []
    if words := _DECISIONS.get(str(settings.get("decisions"))):
        parts.append(words[1])
    if n_orders := settings.get("orders"):
        parts.append(f"asked in {n_orders} orders of the evidence")
    return parts
