"""The dataset card: README.md of the built data set, from the figures of audit.json."""

from utils.cards import cell
from utils.hub_names import licence_ids

# Upper limits of the hub's size classes.
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def _header(figures: dict, licences: dict[str, str]) -> str:
    """The YAML block for the hub: licences, task, size, and which file is which split."""
    # Half a second, which other modules of this package need not wait for.
    from huggingface_hub import DatasetCardData

    n_samples = sum(figures["n_samples"].values())
    # Other JSON files are beside the samples; without this the hub would take them for samples too.
    files = [{"split": split, "path": f"{split}.jsonl"} for split in figures["n_samples"]]
    data = DatasetCardData(
        pretty_name="Evidence-grounded question answering",
        license=licence_ids(list(licences.values())),
        task_categories=["question-answering"],
        size_categories=[next((name for limit, name in _SIZES.items() if n_samples < limit), "1M<n<10M")],
        tags=["grounded-question-answering", "citations", "refusal"],
        configs=[{"config_name": "default", "data_files": files}],
    )
    return f"---\n{data.to_yaml()}\n---\n"


def dataset_card(figures: dict, licences: dict[str, str], hashes: dict[str, str], seed: int) -> str:
    """Text of the card: counts by split and source, licences by source, SHA-256 by raw file."""
    lines = [
        _header(figures, licences),
        "# Evidence-grounded question answering",
        "",
        "Questions with numbered passages; the answer, the passages that support it, or a refusal where none",
        f"does. Built by `build_data.py` with seed {seed}. Figures: `audit.json`.",
        "",
        "| split | source | answerable | unanswerable |",
        "|---|---|---|---|",
    ]
    for split, by_source in figures["counts"].items():
        for source, n in by_source.items():
            answerable = n.get("answerable", 0)
            lines.append(f"| {split} | {cell(source)} | {answerable} | {n.get('unanswerable', 0)} |")

    lines += ["", "## Use", "", "```python", "from datasets import load_dataset", ""]
    splits = list(figures["n_samples"])
    files = {split: f"{split}.jsonl" for split in splits}
    lines += [f"files = {files}"]
    lines += ['data = load_dataset("json", data_files=files)', f'print(data["{splits[0]}"][0]["question"])']
    lines += ["```"]

    lines += ["", "## Licences", ""]
    lines += [f"- {cell(source)}: {cell(licence)}" for source, licence in licences.items()]
    # Wikipedia-derived text is CC BY-SA, so the licences have to travel with the data.
    lines += ["", "Samples keep the licence of the source they come from.", ""]

    lines += ["## Limits", ""]
    lines += ["- Support was verified by rules, which miss some passages that a reader would accept."]
    lines += ["- `audit.json`, under `shortcuts`, says what can be guessed without reading the evidence.", ""]

    lines += ["## Raw files (SHA-256)", ""]
    lines += [f"- `{name}`: `{digest}`" for name, digest in hashes.items()]
    return "\n".join(lines) + "\n"
