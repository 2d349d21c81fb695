"""What a build was asked for and did not give: empty splits, shares that are missed, a source cut too much.

It reads finished samples and the counts of dropped rows. Rules that no sample may break are in audit.py.
"""

from collections import Counter

from evidence.drops import few_left, main_reasons
from evidence.leaks import support_pages
from evidence.splits import CUT_REASON
from utils.runs import format_drops

# A share counts as missed when it is off by more than this part of the samples, and by more than two samples:
# groups move as a whole, so small data sets cannot do better.
_SHARE_SLACK = 0.03
_MIN_OFF = 2

# A source that loses more than this share of its rows because they connect two splits may be distorted.
_MAX_CUT = 0.2

_MAX_SHOWN = 4

Splits = dict[str, list[dict]]


def _is_off(n: int, share: float, n_all: int) -> bool:
    return abs(n - share * n_all) > max(_MIN_OFF, _SHARE_SLACK * n_all)


def _split_shares_missed(splits: Splits, shares: dict[str, float]) -> list[str]:
    """One line if the splits do not have their shares of all samples."""
    counts = {split: len(samples) for split, samples in splits.items()}
    n_all = sum(counts.values())
    # Where rows may not go to train, val and test share what there is.
    whole = sum(shares[split] for split in splits)
    asked = {split: shares[split] / whole for split in splits}
    if not any(_is_off(counts[split], share, n_all) for split, share in asked.items()):
        return []
    got = ", ".join(f"{split} {n / n_all:.2f} (asked {asked[split]:.2f})" for split, n in counts.items())
    return [f"split shares: {got}"]


def _unanswerable_missed(splits: Splits, fraction: float) -> list[str]:
    """One line that names the sources and splits with too few unanswerable samples."""
    short = []
    for split, samples in splits.items():
        for source in sorted({sample["source"] for sample in samples}):
            of_source = [sample for sample in samples if sample["source"] == source]
            n = sum(not sample["answerable"] for sample in of_source)
            if n < fraction * len(of_source) and _is_off(n, fraction, len(of_source)):
                short.append(f"{n / len(of_source):.2f} of {fraction:.2f} in {source} {split}")
    if not short:
        return []
    more = f" and {len(short) - _MAX_SHOWN} more" if len(short) > _MAX_SHOWN else ""
    return [f"unanswerable {', '.join(short[:_MAX_SHOWN])}{more}"]


def _cut_too_much(splits: Splits, drops: dict[str, dict[str, int]]) -> list[str]:
    """One line per source that lost too many rows to the rule that no row connects two splits."""
    n_rows: Counter = Counter()
    for samples in splits.values():
        n_rows.update(sample["source"] for sample in samples if not sample["metadata"].get("twin_of"))
    lines = []
    for source, reasons in drops.items():
        n_cut = reasons.get(CUT_REASON, 0)
        if n_cut > _MAX_CUT * (n_cut + n_rows[source]):
            lines.append(
                f"{source}: {n_cut} rows dropped because they connect two splits, over {_MAX_CUT:.0%}; "
                "titles of smaller parts (one per section), or rows that share fewer pages, would keep more"
            )
    return lines


def missed_promises(
    splits: Splits, drops: dict[str, dict[str, int]], shares: dict[str, float], fraction: float
) -> list[str]:
    """One line per promise of the settings that the build does not keep, for its last line."""
    if not any(splits.values()):
        return []
    missed = _split_shares_missed(splits, shares) + _unanswerable_missed(splits, fraction)
    return missed + _cut_too_much(splits, drops) + _lost(splits, drops)


def _lost(splits: Splits, drops: dict[str, dict[str, int]]) -> list[str]:
    """The sources of which all rows were dropped."""
    kept = {sample["source"] for samples in splits.values() for sample in samples}
    lost = []
    for source in sorted(drops.keys() - kept):
        main = main_reasons(Counter(drops[source])) or "nothing"
        lost.append(f"{source}: no sample (dropped: {main})")
    return lost


def _what_connects(splits: Splits) -> str:
    """What holds most of the samples together in one group; "" if nothing does."""
    originals = []
    for samples in splits.values():
        originals += [sample for sample in samples if not sample["metadata"].get("twin_of")]
    # One question alone shares nothing.
    if len(originals) < 2:
        return ""
    groups = Counter(sample["group"] for sample in originals)
    group, n = groups.most_common(1)[0]
    if 2 * n <= len(originals):
        shared = (
            f"{len(originals)} questions share pages in {len(groups)} groups, each of which is in one split"
        )
        return shared if len(groups) < len(splits) else ""

    pages: Counter = Counter()
    for sample in originals:
        if sample["group"] == group:
            pages.update(support_pages(sample))
    page, n_on_page = pages.most_common(1)[0] if pages else ("", 0)
    shared = f"share the page {page!r:.60}" if 2 * n_on_page > n else "are connected by pages that they share"
    return f"{n} of {len(originals)} questions {shared}, so they are in one split"


def empty_split_problem(splits: Splits, drops: dict[str, int]) -> str | None:
    """Which of the splits has no sample, why, and what would help; None if each has one.

    `drops`: dropped rows by reason.
    """
    empty = [split for split, samples in splits.items() if not samples]
    if not empty:
        return None
    connected = _what_connects(splits)
    n_left = sum("twin_of" not in sample["metadata"] for samples in splits.values() for sample in samples)
    if lost := few_left(drops, n_left):
        kinds = " and no ".join(empty)
        also = f"; {connected}" if connected else ""
        return f"no {kinds} sample could be built because {lost}{also}"
    if connected:
        return (
            f"no {' and no '.join(empty)} sample, because {connected}; give the passages finer titles (one "
            "per section), or add questions about other pages"
        )
    kinds = " and no ".join(split.replace("train", "training") for split in empty)
    return (
        f"no {kinds} sample could be built ({format_drops(drops)}); give the source more rows, or `pages` or "
        "`contexts` in the config (CONTRIBUTING.md, Add a source)"
    )
