"""Does a judge answer with the labels at all? Its probability on A and B, and its winner in both orders.

A verdict is the ratio of two probabilities. A model that is about to say something else (to think, or to
repeat the question) has such a ratio too, and it means nothing.
"""

from utils.errors import StageError

# Measured: SmolLM2-135M-Instruct, the smallest judge we know, has 0.22 to 0.37 with the default template and
# 0.53 to 0.64 with `simple`; random weights behind `<think>` have 0.007. In between the ratio may be right,
# so the bound is nearer to the lower end.
MIN_LABEL_SHARE = 0.05


def label_share(rows: list[dict]) -> float | None:
    """Mean probability of A and B as next token over all comparisons; None if nothing says."""
    # Judgements of an earlier version do not say.
    counted = [row for row in rows if row["n_compared"] and row.get("label_share") is not None]
    n_compared = sum(row["n_compared"] for row in counted)
    if not n_compared:
        return None
    return sum(row["label_share"] * row["n_compared"] for row in counted) / n_compared


def _figures(rows: list[dict]) -> str:
    share = label_share(rows)
    on_labels = "unknown share" if share is None else f"{share:.1%}"
    n_compared = sum(row["n_compared"] for row in rows)
    agree = sum(row["agree"] for row in rows) / n_compared
    return (
        f"{on_labels} of the probability on the labels A and B, the same winner in both orders in "
        f"{agree:.0%} of {n_compared} comparisons"
    )


def describe_judge(rows: list[dict]) -> str | None:
    """One line on the judgements of a model; None where no model judged."""
    return f"judge: {_figures(rows)}" if any(row["n_compared"] for row in rows) else None


def check_judge(rows: list[dict], name: str, min_share: float) -> None:
    """StageError if a judge has less than `min_share` of its probability on the labels."""
    share = label_share(rows)
    if share is not None and share < min_share:
        raise StageError(
            f"{name} does not judge: {_figures(rows)}, below --min-label-share {min_share:g}. It would "
            "say something else first (thoughts, or its chat template does not fit); choose another "
            "--judge-model, or --judge verifier"
        )
