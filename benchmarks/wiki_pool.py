"""A zip of wiki pages in FEVER's format: real ones among others that are made to be confused with them.

The real ones are every page and passage of the real records. The public 5.4 M pages cannot be had everywhere,
so the others mix the real ones: each has sentences of three of them under a title of real title words. In
each sentence, about half of the names and numbers are replaced by those of other pages, and the old title by
the new one. So the words are those of Wikipedia, as often as there, and most sentences that contain a
question's answer are about something else.
"""

import json
import random
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

PAGES_PER_MEMBER = 50_000

# A run of capitalized words, or a number.
NAME = re.compile(r"[A-Z][\w'-]+(?: [A-Z][\w'-]+)*|\d[\d,.]*\d|\d")
DOCUMENT = re.compile(r"^Document \d+ \(Title: (.*?)\): *(.*)$", re.DOTALL)

# Title -> sentences.
Pages = dict[str, list[str]]


def add_page(pages: Pages, title: str, sentences: list[str]) -> None:
    """Add the sentences that the page of this title does not have yet: passages of one page are joined."""
    known = pages.setdefault(title, [])
    for sentence in sentences:
        sentence = " ".join(sentence.split())
        if sentence and sentence not in known:
            known.append(sentence)


def passage_rows(folder: Path) -> Iterator[tuple[str, str]]:
    """(title, text) of every passage of the NQ and PopQA files."""
    from utils.jsonl import read_jsonl

    for name in ("nq/nq-open-oracle.jsonl", "nq/nq_retrieved_ctxs.jsonl", "popqa/popqa_retrieved_ctxs.jsonl"):
        for _, row in read_jsonl(folder / name):
            yield from ((ctx["title"], ctx["text"]) for ctx in row["ctxs"])
    for name in ("nq/nq_passages_5.jsonl", "popqa/popqa_passages_5.jsonl"):
        for _, row in read_jsonl(folder / name):
            for text in row["passages"]:
                match = DOCUMENT.match(text)
                if match:
                    yield match.group(1), match.group(2)
    for row in json.loads((folder / "popqa/popqa_with_paragraphs.json").read_text()):
        yield from ((part["title"], part["text"]) for part in row["paragraphs"])


def real_pages(folder: Path) -> Pages:
    """Every page and passage of the real records."""
    from sources.wiki_pages import read_pages
    from utils.jsonl import raise_bad, read_jsonl
    from utils.text import split_sentences

    wiki = folder / "fever/wiki-pages/wiki-001.jsonl"
    wanted = {row["id"] for _, row in read_jsonl(wiki)}
    pages: Pages = {}
    for title, sentences in read_pages(wiki, set(), set(), len(wanted), raise_bad).items():
        add_page(pages, title, sentences)
    for path in sorted((folder / "hotpotqa").glob("*.json")):
        for row in json.loads(path.read_text()):
            for title, sentences in row["context"]:
                add_page(pages, title, sentences)
    for title, text in passage_rows(folder):
        add_page(pages, title, split_sentences(text))
    return {title: sentences for title, sentences in pages.items() if title and sentences}


def mixed_title(titles: list[str], rng: random.Random) -> str:
    """The first words of one title and the last of another."""
    first = rng.choice(titles).split()
    last = rng.choice(titles).split()
    words = first[: rng.randint(1, max(1, len(first) // 2 + 1))] + last[rng.randint(0, len(last) - 1) :]
    return " ".join(words)


def mixed_sentence(sentence: str, old: str, new: str, names: list[str], rng: random.Random) -> str:
    """The sentence with the new title in place of the old, and about half of its names and numbers replaced.

    A number is replaced by a number, a name by a name.
    """

    def replace(match: re.Match) -> str:
        found = match.group()
        if found in new or rng.random() < 0.5:
            return found
        for _ in range(20):
            name = rng.choice(names)
            if name[0].isdigit() == found[0].isdigit():
                return name
        return found

    return NAME.sub(replace, sentence.replace(old, new))


def other_pages(pages: Pages, n_pages: int, rng: random.Random) -> Iterator[tuple[str, list[str]]]:
    """(title, sentences) of pages that mix the real ones."""
    titles = list(pages)
    names = []
    for title in titles:
        for sentence in pages[title]:
            names += NAME.findall(sentence)
    for _ in range(n_pages):
        new = mixed_title(titles, rng)
        sentences = []
        for old in rng.choices(titles, k=3):
            start = rng.randrange(len(pages[old]))
            for sentence in pages[old][start : start + rng.randint(1, 3)]:
                sentences.append(mixed_sentence(sentence, old, new, names, rng))
        yield new, [f"{new} is {sentences[0][:1].lower()}{sentences[0][1:]}", *sentences[1:]]


def wiki_row(title: str, sentences: list[str]) -> bytes:
    """A page in FEVER's format: punctuation apart from words, brackets escaped."""
    apart = []
    for sentence in sentences:
        sentence = re.sub(r"([(\[])", r"\1 ", re.sub(r"([.,;:!?)\]]+)(?=\s|$)", r" \1", sentence))
        apart.append(sentence.replace("(", "-LRB-").replace(")", "-RRB-"))
    page_id = title.replace("(", "-LRB-").replace(")", "-RRB-").replace(":", "-COLON-").replace(" ", "_")
    # FEVER lists the links of each sentence behind it.
    lines = "\n".join(f"{i}\t{text}\t{title}\t{page_id}" for i, text in enumerate(apart))
    row = {"id": page_id, "text": " ".join(apart), "lines": lines}
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def write_zip(path: Path, folder: Path, n_others: int) -> int:
    """Write real and other pages in random order; returns the number of pages."""
    rng = random.Random(0)
    pages = real_pages(folder)
    rows = list(pages.items())
    taken = {title.casefold() for title in pages}
    for title, sentences in other_pages(pages, n_others, rng):
        # A page of the title of a real one would hide it.
        if title.casefold() not in taken:
            taken.add(title.casefold())
            rows.append((title, sentences))
    rng.shuffle(rows)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for start in range(0, len(rows), PAGES_PER_MEMBER):
            with archive.open(f"wiki-pages/wiki-{start // PAGES_PER_MEMBER:03d}.jsonl", "w") as member:
                for title, sentences in rows[start : start + PAGES_PER_MEMBER]:
                    member.write(wiki_row(title, sentences))
    return len(rows)
