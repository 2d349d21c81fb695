"""One palette for every picture: the same metric, loss or model has the same color in each.

Colors that color-blind readers can tell apart (Okabe and Ito, 2008). It knows names, no drawing library.
"""

COLORS = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "gray": "#6B7280",
}
# Lines that are drawn together have different colors: those of a loss, of a suite, of the reward model.
COLOR_OF = {
    "train": "blue",
    "val": "vermilion",
    "sft": "blue",
    "base": "vermilion",
    "em_answerable": "blue",
    "citation_correctness": "green",
    "refusal_f1": "purple",
    "net_score": "vermilion",
    "hallucination_rate": "orange",
    "answered_rate": "sky",
    "joint_f1": "green",
    "schema_valid_rate": "gray",
    "refused_of_turned": "green",
    "attack_success_rate": "orange",
    "unmoved_where_uncited": "green",
    "follows_memory": "orange",
    "chosen": "blue",
    "rejected": "vermilion",
    "roc_auc": "blue",
    "accuracy": "green",
}


def colors_of(names: list[str]) -> list[str]:
    """The color name of each line of a picture: the fixed one, else one that the picture has not used."""
    taken = {COLOR_OF[name] for name in names if name in COLOR_OF}
    free = [color for color in COLORS if color not in taken] or list(COLORS)
    found = []
    n_free = 0
    for name in names:
        if name in COLOR_OF:
            found.append(COLOR_OF[name])
        else:
            found.append(free[n_free % len(free)])
            n_free += 1
    return found
