"""The dataset card: README.md of the built data set, from the figures of audit.json."""


def dataset_card(figures: dict, licences: dict[str, str], hashes: dict[str, str], seed: int) -> str:
    """Text of the card: counts by split and source, licences by source, SHA-256 by raw file."""
    lines = [
        "# Evidence-grounded question answering",
        "",
        f"Built by `build_data.py` with seed {seed}. Figures: `audit.json`.",
        "",
        "| split | source | answerable | unanswerable |",
        "|---|---|---|---|",
    ]
    for split, by_source in figures["counts"].items():
        for source, n in by_source.items():
            answerable = n.get("answerable", 0)
            lines.append(f"| {split} | {source} | {answerable} | {n.get('unanswerable', 0)} |")

    lines += ["", "## Licences", ""]
    lines += [f"- {source}: {licence}" for source, licence in licences.items()]
    # Wikipedia-derived text is CC BY-SA, so the licences have to travel with the data.
    lines += ["", "Samples keep the licence of the source they come from.", ""]

    lines += ["## Raw files (SHA-256)", ""]
    lines += [f"- `{name}`: `{digest}`" for name, digest in hashes.items()]
    return "\n".join(lines) + "\n"
