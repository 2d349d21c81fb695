"""A trained reward head to the model hub: best/ with a card that names the hub's ids alone."""

import json
from pathlib import Path
from typing import Any

from preferences.card import card_facts, reward_card
from preferences.inputs import check_head_dir
from utils.hub import push_folder
from utils.hub_names import hub_model_id
from utils.jsonl import read_json


def publish_head(
    output_dir: Path, preferences: list[dict], tokenizer: Any, template: str, repo_id: str, public: bool
) -> None:
    """Upload the best head of a finished run, and print where it is."""
    folder = output_dir / "best"
    check_head_dir(folder)
    saved = read_json(folder / "config.json")
    validation = output_dir / "validation.json"
    facts = card_facts(saved, read_json(validation) if validation.is_file() else None, preferences)
    base = hub_model_id(saved["base_model"]) or Path(saved["base_model"]).name
    texts = {
        "README.md": reward_card(facts, tokenizer, template, repo_id, base),
        "config.json": json.dumps({**saved, "base_model": base}, indent=2, ensure_ascii=False),
    }
    url = push_folder(repo_id, folder, texts, public)
    print(f"uploaded best to {url} ({'public' if public else 'private'})")
