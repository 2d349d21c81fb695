"""FEVER (Thorne et al., 2018): claims jsonl and the wiki-pages zip -> records and pages.

claims: {"id", "label": SUPPORTS | REFUTES | NOT ENOUGH INFO, "claim", "evidence": [[[annotation, evidence, page, line], ...], ...]}
pages:  {"id", "text", "lines": "0<TAB>sentence<TAB>links...<NEWLINE>1<TAB>..."}, one jsonl member after another in the zip
"""

import heapq
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm.auto import tqdm

from evidence.paraphrase import bare_title
from evidence.records import Record
from utils.errors import DataError
from utils.jsonl import read_jsonl, read_objects
from utils.schema import LABEL_ALIASES
from utils.text import STOP_WORDS, tokenize

QUESTION = "Is this claim supported or refuted by the evidence? {claim}"
_VERDICTS = {"SUPPORTS": "supported", "REFUTES": "refuted"}
_ESCAPES = {
    "-LRB-": "(",
    "-RRB-": ")",
    "-LSB-": "[",
    "-RSB-": "]",
    "-LCB-": "{",
    "-RCB-": "}",
    "-COLON-": ":",
}
# The public zip unpacks from 1.7 GB to about 7 GB.
_MAX_UNPACKED_BYTES = 64 << 30
_MAX_RATIO = 100


def unescape(text: str) -> str:
    """FEVER's Penn Treebank escapes and spacing back to running text, Unicode composed."""
    for escape, char in _ESCAPES.items():
        text = text.replace(escape, char)
    text = text.replace("``", '"').replace("''", '"').replace(" -- ", " – ")
    text = re.sub(r"([(\[{]) | ([)\]},.;:!?%]|'s\b|n't\b)", r"\1\2", text)
    return unicodedata.normalize("NFC", " ".join(text.split()))


def page_title(page_id: str) -> str:
    """The running title of a wiki id, `Python_-LRB-language-RRB-` -> `Python (language)`."""
    return unescape(page_id.replace("_", " "))


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record a claim. NOT ENOUGH INFO claims are unanswerable; their pages are the ones named in the claim."""
    for number, row in read_jsonl(path, on_bad):
        label = row.get("label")
        if (
            label not in {*_VERDICTS, "NOT ENOUGH INFO"}
            or not isinstance(row.get("claim"), str)
            or "id" not in row
        ):
            on_bad(
                f"{path}:{number}: not a FEVER claim (label {label!r}); expected id, label, claim, evidence"
            )
            continue
        sets = []
        for evidence_set in row.get("evidence", []):
            pairs = tuple(dict.fromkeys((page_title(e[2]), e[3]) for e in evidence_set if e[2] is not None))
            if pairs and pairs not in sets:
                sets.append(pairs)
        verdict = _VERDICTS.get(label)
        yield Record(
            id=f"fever:{row['id']}",
            source="fever",
            question=QUESTION.format(claim=unescape(row["claim"])),
            answers=tuple(LABEL_ALIASES[verdict]) if verdict else (),
            answerable=verdict is not None,
            official_split=official_split,
            gold_sets=tuple(sets) if verdict else (),
            page_titles=(titles := tuple(dict.fromkeys(title for pairs in sets for title, _ in pairs))),
            names=tuple(bare_title(title) for title in titles),
            metadata={"type": label, "claim": row["claim"]},
        )


def named_titles(claims: list[str]) -> set[str]:
    """Keys of the titles a claim may name: its token runs of up to 8 words that start with a capital or digit and are not all stop-words."""
    keys = set()
    for claim in claims:
        words = re.findall(r"\w+", unicodedata.normalize("NFKC", claim))
        for start, word in enumerate(words):
            if word[0].isupper() or word[0].isdigit():
                keys.update(
                    title_key(" ".join(words[start:end]))
                    for end in range(start + 1, min(start + 8, len(words)) + 1)
                )
    # "You Only Live Twice" names no page "You".
    return {key for key in keys if not STOP_WORDS.issuperset(key.split())}


def title_key(title: str) -> str:
    """A title as matched against claims: tokens without the parenthesis that tells pages of one name apart."""
    return " ".join(tokenize(re.sub(r"\s*\([^)]*\)$", "", title)))


def _read_rows(path: Path, on_bad: Callable[[str], None]) -> Iterator[tuple[int, dict]]:
    """Rows of every jsonl member of the zip (or of a plain jsonl file), streamed in the order of their names; nothing is extracted."""
    if path.suffix != ".zip":
        yield from read_jsonl(path, on_bad)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                m
                for m in archive.infolist()
                if m.filename.endswith(".jsonl") and not m.filename.startswith("__MACOSX")
            ]
            if sum(member.file_size for member in members) > _MAX_UNPACKED_BYTES:
                raise DataError(f"{path}: unpacks to over {_MAX_UNPACKED_BYTES >> 30} GB; not a FEVER zip")
            for member in sorted(members, key=lambda m: m.filename):
                if member.file_size > _MAX_RATIO * max(member.compress_size, 1 << 16):
                    raise DataError(
                        f"{path}: member {member.filename} unpacks to {_MAX_RATIO} times its size; not a FEVER zip"
                    )
                # A name is only ever shown, never opened as a path, so `../` in it does nothing.
                with archive.open(member) as raw:
                    yield from read_objects(raw, f"{path}/{member.filename}", on_bad)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: damaged zip ({error}); delete it and run again to fetch it anew") from error


def read_pages(
    path: Path, wanted: set[str], wanted_keys: set[str], max_pool: int, on_bad: Callable[[str], None]
) -> dict[str, list[str]]:
    """One pass over the pages: those with a wanted title or title key, and a pool of `max_pool` others for negatives.

    The pool is the pages with the smallest hash, so it depends neither on the order of the file nor on its length.
    Returns title -> sentences, where index = FEVER line number (missing lines are empty).
    """
    kept: dict[str, list[str]] = {}
    pool: list[tuple[int, str, str]] = []
    for number, row in tqdm(_read_rows(path, on_bad), desc=f"reading {path.name}", unit="page", disable=None):
        if not isinstance(row.get("id"), str) or not isinstance(row.get("lines"), str):
            on_bad(f"{path}: row {number} is not a wiki page; expected id, text, lines")
            continue
        title = page_title(row["id"])
        lines = row["lines"]
        if not title:  # the zip holds one page without a name
            continue
        if title in wanted or (wanted_keys and title_key(title) in wanted_keys):
            kept[title] = page_sentences(lines)
            continue
        rank = -zlib.crc32(title.encode("utf-8"))
        if max_pool and "\t" in lines and (len(pool) < max_pool or rank > pool[0][0]):
            (heapq.heappush if len(pool) < max_pool else heapq.heapreplace)(pool, (rank, title, lines))
    spare = {title: page_sentences(lines) for _, title, lines in sorted(pool, reverse=True)}
    return kept | {title: sentences for title, sentences in spare.items() if any(sentences)}


def page_sentences(lines: str) -> list[str]:
    """`number<TAB>sentence<TAB>links...` lines -> sentences by number; lines that break the pattern belong to a sentence's links."""
    numbered = {}
    for line in lines.split("\n"):
        number, tab, rest = line.partition("\t")
        if tab and number.isdigit() and int(number) < 10_000:
            numbered[int(number)] = unescape(rest.split("\t")[0])
    return [numbered.get(i, "") for i in range(max(numbered, default=-1) + 1)]
