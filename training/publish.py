"""A finished SFT run to the model hub: checkpoint-best with a card that names the hub's ids alone.

What is uploaded, and the errors on the way, are in utils/hub.py.
"""

import json
from pathlib import Path

from evaluation.evaluated import evaluation_of
from training.card import Place, SftCard, kind_of
from training.whole import CARD, checkpoint_damage
from utils.config import home_path
from utils.errors import DataError
from utils.hub import push_folder
from utils.hub_names import hub_model_id
from utils.jsonl import read_json_object
from utils.own_files import CHECKPOINT
from utils.shapes import read_shaped


def finished_checkpoint(output_dir: Path) -> Path:
    """checkpoint-best or, of a run whose loss never was a number, checkpoint-final."""
    for name in ("checkpoint-best", "checkpoint-final"):
        if checkpoint_damage(output_dir / name) is None:
            return output_dir / name
    raise DataError(
        f"{output_dir}: no complete checkpoint to upload; run the training with this config first"
    )


def hub_files(checkpoint: Path, card: SftCard, repo_id: str) -> dict[str, str]:
    """File name -> text of the files that say something else on the hub than here."""
    base = card.config["model_name"]
    hub_base = hub_model_id(base) or Path(base).name
    run = read_shaped(checkpoint / "run.json", CHECKPOINT)
    kind = kind_of(checkpoint)
    texts = {CARD: card.text(run, kind, Place(repo_id, hub_base), evaluation_of(checkpoint))}
    # Sizes and hashes are those of the files here.
    facts = {name: value for name, value in run.items() if name not in ("files", "hashes")}
    texts["run.json"] = json.dumps({**facts, "base_model": hub_base}, indent=2, ensure_ascii=False)
    if kind == "adapter":
        adapter = read_json_object(checkpoint / "adapter_config.json")
        adapter["base_model_name_or_path"] = hub_base
        texts["adapter_config.json"] = json.dumps(adapter, indent=2, ensure_ascii=False)
    # What is beside a checkpoint here: its calibration, and the ids that it was trained on, so that whoever
    # evaluates it is warned of samples that it has seen.
    for name in ("calibration.json", "train_ids.txt"):
        beside = checkpoint.parent / name
        if beside.is_file():
            texts[name] = beside.read_text(encoding="utf-8")
    return texts


def publish(card: SftCard, repo_id: str, public: bool) -> None:
    """Upload the best checkpoint of a finished run, and print where it is."""
    checkpoint = finished_checkpoint(home_path(card.config["output_dir"]))
    url = push_folder(repo_id, checkpoint, hub_files(checkpoint, card, repo_id), public)
    print(f"uploaded {checkpoint.name} to {url} ({'public' if public else 'private'})")
