"""A trained reward head leaves the project: to the model hub, or as a model of transformers.

On the hub, best/ has a card that names the hub's ids alone. An export has the base model too.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from models.loading import load_tokenizer
from preferences.card import card_facts, classifier_card, head_card
from preferences.completion_reader import PromptSource
from preferences.export import export_classifier
from preferences.features import as_completions
from preferences.inputs import check_head_dir
from utils.config import home_path, input_path
from utils.hub import push_folder
from utils.hub_names import hub_model_id
from utils.own_files import MEASURED_HEAD, VALIDATION
from utils.shapes import read_shaped

# Pairs whose completions an exported model scores before it gets its name.
_N_COMPARED = 4


def hand_out(
    args: argparse.Namespace,
    config: dict,
    checkpoint: Path,
    preferences: list[dict],
    prompts: PromptSource,
    template: str,
) -> None:
    """`--export-hf` and `--push-to-hub`, if they were given, of a finished run."""
    if args.export_hf:
        export_head(checkpoint, home_path(args.export_hf), preferences, config, prompts, template)
    if args.push_to_hub:
        tokenizer = load_tokenizer(config["base_model"], config["trust_remote_code"])
        output_dir = home_path(config["output_dir"])
        publish_head(output_dir, preferences, tokenizer, template, args.push_to_hub, args.public)


def publish_head(
    output_dir: Path, preferences: list[dict], tokenizer: Any, template: str, repo_id: str, public: bool
) -> None:
    """Upload the best head of a finished run, and print where it is."""
    folder = output_dir / "best"
    check_head_dir(folder)
    saved = read_shaped(folder / "config.json", MEASURED_HEAD)
    validation = output_dir / "validation.json"
    figures = read_shaped(validation, VALIDATION) if validation.is_file() else None
    facts = card_facts(saved, figures, preferences)
    base = hub_model_id(saved["base_model"]) or Path(saved["base_model"]).name
    texts = {
        "README.md": head_card(facts, tokenizer, template, repo_id, base),
        "config.json": json.dumps({**saved, "base_model": base}, indent=2, ensure_ascii=False),
    }
    url = push_folder(repo_id, folder, texts, public)
    print(f"uploaded best to {url} ({'public' if public else 'private'})")


def export_head(
    folder: Path, target: Path, preferences: list[dict], config: dict, prompts: PromptSource, template: str
) -> None:
    """`--export-hf`: write the head in `folder` with its base model to `target`, and print what was compared.

    The errors are those of `export_classifier`.
    """
    saved = read_shaped(folder / "config.json", MEASURED_HEAD)
    validation = folder.parent / "validation.json"
    figures = read_shaped(validation, VALIDATION) if validation.is_file() else None
    # The figures on test are those of the head that was validated last.
    is_validated = figures is not None and input_path(figures["checkpoint"]) == folder
    facts = card_facts(saved, figures if is_validated else None, preferences)
    tokenizer = load_tokenizer(config["base_model"], config["trust_remote_code"])
    card = classifier_card(facts, tokenizer, template)
    rows = as_completions(preferences[:_N_COMPARED])
    gap = export_classifier(folder, target, rows, config, prompts, card)
    print(f"wrote {target}, a sequence classifier: {len(rows)} scores differ by at most {gap:.1g}")
