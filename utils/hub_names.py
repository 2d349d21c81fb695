"""What the model hub calls things: ids of models and data sets, and licences.

It knows names and reads no weights. A name that the hub does not know is left out of a card, never guessed.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from utils.config import input_path

# The embedded models are unpacked from 4-bit files of these weights.
EMBEDDED_IDS = {
    "embedded": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "embedded-gemma": "google/gemma-3-270m",
}
# The hub's cache: models--owner--name/snapshots/<commit>.
_CACHED = re.compile(r"models--([^/]+)--([^/]+)/snapshots/")

# An id with a commit, tag or branch behind it.
_WITH_REVISION = re.compile(r"((?:\w[\w.-]*/)?\w[\w.-]*)@([\w.-]+(?:/[\w.-]+)*)")

# The data sets of this project's readers. The bundled sample has their form, but texts of this project.
DATASET_IDS = {
    "fever": "fever/fever",
    "hotpotqa": "hotpotqa/hotpot_qa",
    "nq_open": "google-research-datasets/nq_open",
    "popqa": "akariasai/PopQA",
}
OWN_TEXTS = "(this project)"

# Licence ids of the hub by the start of a base model's id, the longest start first. A model trained from one
# inherits its terms. "other": terms of their own, on the page of the model.
_LICENCES = {
    "google/gemma": "gemma",
    "meta-llama/Llama-2": "llama2",
    "meta-llama/Meta-Llama-3-": "llama3",
    "meta-llama/Meta-Llama-3.1": "llama3.1",
    "meta-llama/Llama-3.1": "llama3.1",
    "meta-llama/Llama-3.2": "llama3.2",
    "meta-llama/Llama-3.3": "llama3.3",
    "Qwen/Qwen2.5-3B": "other",
    "Qwen/Qwen2.5-72B": "other",
    "Qwen/Qwen2.5": "apache-2.0",
    "Qwen/Qwen3": "apache-2.0",
    "HuggingFaceTB/SmolLM": "apache-2.0",
    "mistralai/Mistral-7B": "apache-2.0",
    "TinyLlama/": "apache-2.0",
    "microsoft/Phi-3": "mit",
    "microsoft/phi-": "mit",
}
# The licences of texts and annotations, as sources name them, and the hub's ids.
_LICENCE_IDS = {
    r"CC[ -]BY[ -]SA[ -]3\.0": "cc-by-sa-3.0",
    r"CC[ -]BY[ -]SA[ -]4\.0": "cc-by-sa-4.0",
    r"CC[ -]BY[ -]3\.0": "cc-by-3.0",
    r"CC[ -]BY[ -]4\.0": "cc-by-4.0",
    r"CC0": "cc0-1.0",
    r"Apache-2\.0": "apache-2.0",
    r"\bMIT\b": "mit",
}


def split_revision(name: str) -> tuple[str, str | None]:
    """(hub id, commit, tag or branch) of `owner/name@revision`; (name, None) of any other name."""
    found = _WITH_REVISION.fullmatch(name)
    # A folder may have an @ in its name.
    if found is None or input_path(name).exists():
        return name, None
    return found[1], found[2]


def hub_model_id(name: str) -> str | None:
    """The hub's id of a model name: an id, an embedded model or a folder of the hub's cache; else None."""
    if name in EMBEDDED_IDS:
        return EMBEDDED_IDS[name]
    if cached := _CACHED.search(str(input_path(name)) + "/"):
        return f"{cached[1]}/{cached[2]}"
    name = split_revision(name)[0]
    is_id = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith(".")
    return name if is_id and not input_path(name).exists() else None


@dataclass(frozen=True)
class Licence:
    """A licence in the words of the hub: its id and, where that is "other", a name and a link."""

    id: str
    name: str | None = None
    link: str | None = None

    @property
    def text(self) -> str:
        if self.id == "other":
            return f"the terms at {self.link}"
        return "see there" if self.id == "unknown" else self.id


def model_licence(hub_id: str | None) -> Licence:
    """The terms of a base model, which also hold for what is trained from it."""
    if hub_id is None:
        return Licence("unknown")
    for start in sorted(_LICENCES, key=len, reverse=True):
        if hub_id.startswith(start) and _LICENCES[start] != "other":
            return Licence(_LICENCES[start])
        if hub_id.startswith(start):
            break
    return Licence("other", "terms-of-the-base-model", f"https://huggingface.co/{hub_id}")


def licence_ids(texts: list[str]) -> list[str]:
    """The hub's ids of licences as sources name them, sorted; "other" for one that has no id."""
    found = set()
    for text in texts:
        ids = {hub_id for pattern, hub_id in _LICENCE_IDS.items() if re.search(pattern, text)}
        found |= ids or {"other"}
    return sorted(found)


def dataset_ids(licences: dict[str, str]) -> list[str]:
    """The hub's ids of the data sets among these sources (source -> licence); none for bundled samples."""
    names = [name for name, licence in licences.items() if OWN_TEXTS not in licence]
    return sorted(DATASET_IDS[name] for name in names if name in DATASET_IDS)


def reference(name: str, local: Path, directory: Path) -> str:
    """How a card in `directory` names a model: relative to itself where that tells nothing of the machine.

    `local`: where the model is, if it is a folder. Of a folder elsewhere only the name is given, since its
    path would tell the user's name.
    """
    if not local.exists():
        return name
    paths = [os.path.abspath(local), os.path.abspath(directory)]
    if os.path.commonpath(paths) == os.sep:
        return local.name
    return os.path.relpath(*paths)
