"""The prompts of all levels of all suites: each is completed once, however many levels share it.

With several orders of the evidence (`evidence/orders.py`) a sample has a prompt for each.
"""

from evidence.orders import agreed, chunk_orders, show_only
from perturbations.suites import Suite
from utils.completions import map_citations, parse_completion
from utils.jsonl import sha256_value


def prompt_key(sample: dict) -> str:
    """A hash of what the prompt shows: perturbed samples with the same key have the same prompt."""
    chunks = [[chunk["title"], chunk["text"]] for chunk in sample["evidence_chunks"]]
    return sha256_value([sample["question"], chunks])[:24]


def distinct_samples(suites: dict[str, Suite], n_orders: int = 1) -> dict[str, dict]:
    """Prompt key -> a sample with that prompt. Levels share many prompts; each is generated once."""
    found = {}
    for suite in suites.values():
        for level in suite.levels.values():
            for sample in level:
                orders = chunk_orders(len(sample["evidence_chunks"]), n_orders)
                prompted = [show_only(sample, order) for order in orders]
                found.update({prompt_key(turned): turned for turned in prompted})
    return found


def row_of(sample: dict, by_key: dict[str, dict], n_orders: int = 1) -> dict:
    """The prediction row of a sample, from those of its prompts: with several orders what they agree on."""
    rows = []
    for order in chunk_orders(len(sample["evidence_chunks"]), n_orders):
        row = by_key[prompt_key(show_only(sample, order))]
        # Chunks were numbered in this order; scoring needs the sample's own ids.
        rows.append({**row, "id": sample["id"], "shown": [order[i] for i in row["shown"]]})
    return agreed(rows) if n_orders > 1 else rows[0]


def describe_level_rows(name: str, suite: Suite, rows_of: dict[str, list[dict]]) -> list[dict]:
    """A suite's prediction rows with level, parsed answer, and citations as ids of the perturbed sample."""
    described = []
    for level, rows in rows_of.items():
        for row in rows:
            completion = parse_completion(row["completion"], len(row["shown"]))
            parsed = map_citations(completion, row["shown"])
            facts = {"answer": parsed.answer, "citations": parsed.citations}
            described.append({"suite": name, "level": level, **row, **facts})
    return described
