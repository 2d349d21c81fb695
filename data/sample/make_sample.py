"""Bundled sample: facts/*.yaml (true facts in our own sentences) -> raw/ in the four original formats.

Pages that mention one another stay on one side: a page of the dev files is named in no page of the train
files.

    python data/sample/make_sample.py            # rewrites data/sample/raw
    python data/sample/make_sample.py --check    # checks the facts only
"""

import argparse
import csv
import io
import itertools
import json
import random
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from utils.jsonl import write_jsonl, write_text  # noqa: E402
from utils.text import contains_tokens, tokenize  # noqa: E402

# The random choices of the sample in git. Another seed writes other rows.
SEED = 20261122

# Of the pages; build_data.py makes val and test of them.
DEV_SHARE = 0.37

# Components of more pages than this go to train whole: on the dev side, one would be most of its domain.
MAX_DEV_COMPONENT = 12

# More than 30% of every source are on the dev side, so that val and test are filled without a training page.
N_PER_PART = {
    "train": {"fever": 240, "nei": 100, "nq": 220, "popqa": 250, "bridge": 75, "compare": 75},
    "dev": {"fever": 130, "nei": 50, "nq": 115, "popqa": 130, "bridge": 45, "compare": 45},
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only check the facts files; write nothing")
    return parser


def base_name(title: str) -> str:
    """The title without its parenthesis: what running text calls the subject."""
    return re.sub(r"\s*\([^)]*\)$", "", title)


def read_facts() -> tuple[dict, list[dict]]:
    """All kinds of things by name, and all pages, each with its `kind` and `domain`."""
    kinds = {}
    pages = []
    for path in sorted((HERE / "facts").glob("*.yaml")):
        domain = yaml.safe_load(path.read_text(encoding="utf-8"))
        kinds |= domain["kinds"]
        pages += [{**page, "domain": domain["domain"]} for page in domain["pages"]]
    return kinds, pages


def page_problems(kinds: dict, pages: list[dict]) -> list[str]:
    """Faults of the facts: values missing from their sentence, too few phrasings, repeated titles."""
    problems = []
    for kind, spec in kinds.items():
        for name, relation in spec["relations"].items():
            if len(set(relation["questions"])) < 6 or len(set(relation["claims"])) < 3:
                problems.append(f"{kind}.{name}: needs six questions and three claims")
    n_pages = Counter(page["title"] for page in pages)
    problems += [f"{title}: two pages" for title in sorted(n_pages) if n_pages[title] > 1]
    for page in pages:
        if not contains_tokens(tokenize(page["sentences"][0]), tokenize(base_name(page["title"]))):
            problems.append(f"{page['title']}: the first sentence does not name it")
        for name, (value, line) in page["facts"].items():
            if not contains_tokens(tokenize(page["sentences"][line]), tokenize(value)):
                problems.append(f"{page['title']}: {name} {value!r} is not in sentence {line}")
    return problems


def mention_components(pages: list[dict]) -> list[list[int]]:
    """Page indices connected by naming one another (or sharing a name), the largest component first."""
    names = [tokenize(base_name(page["title"])) for page in pages]
    texts = [tokenize(" ".join([page["title"], *page["sentences"], *page.get("nei", [])])) for page in pages]
    parent = list(range(len(pages)))

    def find(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    # The sets of words rule out most of the pairs before token sequences are compared.
    vocabulary = [set(text) for text in texts]
    for i, name in enumerate(names):
        for j, text in enumerate(texts):
            if i != j and vocabulary[j].issuperset(name) and contains_tokens(text, name):
                parent[find(i)] = find(j)
    components: dict[int, list[int]] = {}
    for i in range(len(pages)):
        components.setdefault(find(i), []).append(i)
    return sorted(components.values(), key=lambda c: (-len(c), c))


def split_parts(pages: list[dict], rng: random.Random) -> dict[str, list[dict]]:
    """The pages of "train" and "dev": whole components, per domain, so that both sides have every domain."""
    parts: dict[str, list[dict]] = {"train": [], "dev": []}
    counts: dict[str, dict[str, int]] = {}
    components = mention_components(pages)
    small = [component for component in components if len(component) <= MAX_DEV_COMPONENT]
    for component in components:
        if len(component) > MAX_DEV_COMPONENT:
            parts["train"] += [pages[i] for i in component]
            for i in component:
                counts.setdefault(pages[i]["domain"], {"train": 0, "dev": 0})["train"] += 1
    # In random order, each to dev while dev has too few pages of the domain.
    rng.shuffle(small)
    for component in small:
        count = counts.setdefault(pages[component[0]]["domain"], {"train": 0, "dev": 0})
        n_pages = count["dev"] + count["train"] + len(component)
        part = "dev" if count["dev"] < DEV_SHARE * n_pages else "train"
        count[part] += len(component)
        parts[part] += [pages[i] for i in component]
    return parts


def overlaps(a: list[str], b: list[str]) -> bool:
    """True if one token sequence contains the other."""
    return contains_tokens(a, b) or contains_tokens(b, a)


class Writer:
    """Turns the pages of one part into rows. Each (page, relation) is asked about at most once."""

    def __init__(self, kinds: dict, pages: list[dict], rng: random.Random):
        self.kinds = kinds
        self.pages = sorted(pages, key=lambda p: p["title"])
        self.rng = rng
        self.by_base: dict[str, list[dict]] = {}
        for page in self.pages:
            self.by_base.setdefault(base_name(page["title"]), []).append(page)
        facts = [(page, name) for page in self.pages for name in page["facts"]]
        rng.shuffle(facts)
        # Round robin over pages: no page is asked about twice before each was asked about once.
        order: dict[str, int] = {}
        ranked = []
        for page, name in facts:
            order[page["title"]] = order.get(page["title"], 0) + 1
            ranked.append((order[page["title"]], len(ranked), page, name))
        self.facts = [(page, name) for _, _, page, name in sorted(ranked, key=lambda r: r[:2])]

    def relation(self, page: dict, name: str) -> dict:
        return self.kinds[page["kind"]]["relations"][name]

    def called(self, page: dict) -> str:
        """The page in running text: no parenthesis unless a page shares the name; animals in lower case."""
        shared = len(self.by_base[base_name(page["title"])]) > 1
        # Kinds marked `lowercase` in the facts, such as animals, have common nouns for names.
        name = page["title"] if shared else base_name(page["title"])
        return name[0].lower() + name[1:] if self.kinds[page["kind"]].get("lowercase") else name

    def accepted(self, page: dict, name: str) -> list[str]:
        """The accepted answers about a fact of the page, the canonical one first."""
        value = page["facts"][name][0]
        return [value, *page.get("value_aliases", {}).get(value, [])]

    def fill(self, template: str, **values: str) -> str:
        """The template with its values, its first letter in upper case."""
        text = template.format(**values)
        return text[0].upper() + text[1:]

    def question(self, page: dict, name: str) -> str:
        return self.fill(self.rng.choice(self.relation(page, name)["questions"]), name=self.called(page))

    def take(
        self, n_wanted: int, wanted: Callable[[dict, str], bool] = lambda page, name: True
    ) -> list[tuple[dict, str]]:
        """The next facts (page, relation) that are wanted. No later call gets them again."""
        taken = [fact for fact in self.facts if wanted(*fact)][:n_wanted]
        keys = {(page["title"], name) for page, name in taken}
        self.facts = [(p, n) for p, n in self.facts if (p["title"], n) not in keys]
        return taken

    def wrong_value(self, page: dict, name: str) -> str | None:
        """Another page's value of the relation, without overlap with an accepted one; or None."""
        right = [tokenize(value) for value in self.accepted(page, name)]
        same_kind = [
            other for other in self.pages if other["kind"] == page["kind"] and name in other["facts"]
        ]
        usable = []
        for value in sorted({other["facts"][name][0] for other in same_kind}):
            if not any(overlaps(accepted, tokenize(value)) for accepted in right):
                usable.append(value)
        return self.rng.choice(usable) if usable else None


def fever_rows(writer: Writer, n_claims: int, n_nei: int, first_id: int) -> list[dict]:
    """FEVER claims: supported, refuted by another page's value, and not enough info."""
    rows = []
    for i, (page, name) in enumerate(writer.take(n_claims)):
        value, line = page["facts"][name]
        # Every second claim is false, where another page has a value to take.
        wrong = writer.wrong_value(page, name) if i % 2 else None
        claim = writer.fill(
            writer.rng.choice(writer.relation(page, name)["claims"]),
            name=writer.called(page),
            value=wrong or value,
        )
        label = "REFUTES" if wrong else "SUPPORTS"
        rows.append(
            {
                "verifiable": "VERIFIABLE",
                "label": label,
                "claim": claim,
                "evidence": [[[0, 0, fever_id(page["title"]), line]]],
            }
        )
    unsettled = [(page, claim) for page in writer.pages for claim in page["nei"][:1]]
    for _, claim in writer.rng.sample(unsettled, min(n_nei, len(unsettled))):
        rows.append(
            {
                "verifiable": "NOT VERIFIABLE",
                "label": "NOT ENOUGH INFO",
                "claim": claim,
                "evidence": [[[0, None, None, None]]],
            }
        )
    writer.rng.shuffle(rows)

    # Ids in the shuffled order, or the NOT ENOUGH INFO claims would all come last.
    numbered = []
    for i, row in enumerate(rows, first_id):
        page_id, line = row["evidence"][0][0][2:]
        evidence = [[[i, None if page_id is None else i, page_id, line]]]
        numbered.append({"id": i, **row, "evidence": evidence})
    return numbered


def fever_id(title: str) -> str:
    """A title as FEVER's files write it."""
    return title.replace(" ", "_").replace("(", "-LRB-").replace(")", "-RRB-").replace(":", "-COLON-")


def write_wiki(path: Path, pages: list[dict]) -> None:
    """wiki-pages.zip: one JSONL member of {id, text, lines}; `lines` is number<TAB>sentence, escaped."""
    rows = io.StringIO()
    for page in sorted(pages, key=lambda p: p["title"]):
        sentences = [s.replace("(", "-LRB-").replace(")", "-RRB-") for s in page["sentences"]]
        # The public files end each page with an empty line.
        lines = "\n".join(f"{i}\t{s}" for i, s in enumerate([*sentences, ""]))
        row = {"id": fever_id(page["title"]), "text": " ".join(sentences), "lines": lines}
        rows.write(json.dumps(row, ensure_ascii=False) + "\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        # A fixed date keeps the archive byte-identical from run to run.
        member = zipfile.ZipInfo("wiki-pages/wiki-001.jsonl", (2026, 1, 1, 0, 0, 0))
        archive.writestr(member, rows.getvalue(), zipfile.ZIP_DEFLATED)


def hotpot_row(
    writer: Writer, question: str, answer: str, kind: str, support: list[tuple[dict, int]]
) -> dict:
    """Distractor setting: the two gold pages among eight others, half of them of the same kinds."""
    gold = [page["title"] for page, _ in support]
    kinds = {page["kind"] for page, _ in support}
    others = []
    for page in writer.pages:
        # A page about the answer would be a third gold page.
        if page["title"] not in gold and answer not in (page["title"], base_name(page["title"])):
            others.append(page)
    writer.rng.shuffle(others)
    near = [page for page in others if page["kind"] in kinds][:4]
    far = [page for page in others if page not in near][: 8 - len(near)]
    context = [page for page, _ in support] + near + far
    writer.rng.shuffle(context)

    paragraphs = []
    for page in context:
        # HotpotQA's sentences after the first begin with a space.
        first, *rest = page["sentences"]
        paragraphs.append([page["title"], [first, *(f" {sentence}" for sentence in rest)]])
    facts = [[page["title"], line] for page, line in support]
    return {
        "answer": answer,
        "question": question,
        "supporting_facts": facts,
        "context": paragraphs,
        "type": kind,
        "level": "medium",
    }


@dataclass(frozen=True)
class Chain:
    """A fact of a page whose value is the name of another page, and a fact of that page."""

    page: dict
    line: int
    phrase: str
    target: dict
    relation: str


def chains_of(writer: Writer) -> list[Chain]:
    chains = []
    for page in writer.pages:
        for name, (value, line) in page["facts"].items():
            relation = writer.relation(page, name)
            targets = writer.by_base.get(value, [])
            # Of several pages with that name, the question would not tell which is meant.
            if "hop" in relation and len(targets) == 1:
                phrase = relation["hop"].format(name=writer.called(page))
                for second in targets[0]["facts"]:
                    chains.append(Chain(page, line, phrase, targets[0], second))
    return chains


def bridge_rows(writer: Writer, n_wanted: int) -> list[dict]:
    """Questions about a page that name it by another: `the author of X` in place of the author's name."""
    chains = chains_of(writer)
    writer.rng.shuffle(chains)
    rows = []
    for chain in chains:
        value, second_line = chain.target["facts"][chain.relation]
        usable = []
        for question in writer.relation(chain.target, chain.relation)["questions"]:
            # "the author of X's mother" and "the the author of X" are no English.
            if not question.startswith("{name}'s") and "the {name}" not in question:
                usable.append(question)

        # The first page alone must not answer the question, nor the question itself.
        own_text = tokenize(" ".join(chain.page["sentences"]))
        own_name = tokenize(base_name(chain.page["title"]))
        is_given_away = contains_tokens(own_text, tokenize(value)) or contains_tokens(
            tokenize(value), own_name
        )
        if not usable or is_given_away:
            continue

        question = writer.fill(writer.rng.choice(usable), name=chain.phrase)
        support = [(chain.page, chain.line), (chain.target, second_line)]
        rows.append(hotpot_row(writer, question, value, "bridge", support))
    return rows[:n_wanted]


def as_number(value: str) -> float | None:
    """The first number of a value; None for a text without one and for years before the common era."""
    match = re.search(r"\d+(?:\.\d+)?", value.replace(",", ""))
    return None if match is None or "BC" in value else float(match.group())


def comparable_pairs(writer: Writer) -> list[tuple[str, dict, dict, dict]]:
    """(relation name, relation, page, page) of any two pages of a kind that have the relation."""
    pairs = []
    for kind, spec in writer.kinds.items():
        pages = [page for page in writer.pages if page["kind"] == kind]
        for name, relation in spec["relations"].items():
            having = [page for page in pages if name in page["facts"]]
            for a, b in itertools.product(having, repeat=2):
                if base_name(a["title"]) != base_name(b["title"]):
                    pairs.append((name, relation, a, b))
    return pairs


def winner_of(relation: dict, a: dict, b: dict, name: str) -> str | None:
    """ "a" or "b": the page that a comparison of the relation asks for; None where the values do not tell."""
    number_a = as_number(a["facts"][name][0])
    number_b = as_number(b["facts"][name][0])
    if not relation.get("compare") or number_a is None or number_b is None or number_a == number_b:
        return None
    picks_a = (number_a > number_b) == (relation["compare_pick"] == "larger")
    return "a" if picks_a else "b"


def compare_rows(writer: Writer, n_wanted: int) -> list[dict]:
    """Which of two is older, longer, ...; and yes/no questions about a shared value."""
    pairs = comparable_pairs(writer)
    writer.rng.shuffle(pairs)
    rows: dict[str, list[dict]] = {"compare": [], "yes": [], "no": []}
    n_uses: Counter = Counter()
    for name, relation, a, b in pairs:
        # A few pages would otherwise be in most of the questions.
        if n_uses[a["title"]] + n_uses[b["title"]] > 1:
            continue
        value_a, line_a = a["facts"][name]
        value_b, line_b = b["facts"][name]
        names = {"a": writer.called(a), "b": writer.called(b)}

        pick = winner_of(relation, a, b, name)
        if pick and len(rows["compare"]) < n_wanted // 2:
            kind = "compare"
            answer = names[pick]
            templates = relation["compare"]
        elif relation.get("same"):
            kind = answer = "yes" if value_a == value_b else "no"
            templates = relation["same"]
            # "England" and "London, England": neither yes nor no.
            is_unclear = answer == "no" and overlaps(tokenize(value_a), tokenize(value_b))
            if is_unclear or len(rows[kind]) >= n_wanted // 4:
                continue
        else:
            continue

        question = writer.fill(writer.rng.choice(templates), **names)
        rows[kind].append(hotpot_row(writer, question, answer, "comparison", [(a, line_a), (b, line_b)]))
        n_uses.update([a["title"], b["title"]])
    return rows["compare"] + rows["yes"] + rows["no"]


def nq_rows(writer: Writer, n_wanted: int) -> tuple[list[dict], list[dict]]:
    """NQ-Open rows (lower case, no question mark) and their DPR-layout contexts."""
    rows = []
    contexts = []
    # Answers of one character are in texts by chance, so no reader could verify them.
    for page, name in writer.take(n_wanted, lambda page, name: len(page["facts"][name][0]) > 1):
        question = writer.question(page, name).rstrip("?").lower()
        answers = writer.accepted(page, name)
        wanted = [tokenize(answer) for answer in answers]

        near = []
        for other in writer.pages:
            text = tokenize(" ".join(other["sentences"]))
            has_answer = any(contains_tokens(text, answer) for answer in wanted)
            if other is not page and other["kind"] == page["kind"] and not has_answer:
                near.append(other)
        negatives = writer.rng.sample(near, min(3, len(near)))
        passages = [{"title": p["title"], "text": " ".join(p["sentences"])} for p in [page, *negatives]]

        rows.append({"question": question, "answer": answers})
        contexts.append(
            {
                "question": question,
                "answers": answers,
                "positive_ctxs": passages[:1],
                "negative_ctxs": [],
                "hard_negative_ctxs": passages[1:],
            }
        )
    return rows, contexts


def fever_title(row: dict) -> str | None:
    """Title of the page that a claim's evidence names; None for NOT ENOUGH INFO."""
    page_id = row["evidence"][0][0][2]
    if not page_id:
        return None
    return page_id.replace("_", " ").replace("-LRB-", "(").replace("-RRB-", ")").replace("-COLON-", ":")


def popqa_rows(
    writer: Writer, official: set[str], n_wanted: int, mentions: dict[str, int], first_id: int
) -> list[list]:
    """Rows of popQA.tsv about the pages `official`.

    The popularity columns count the sample's own pages that name the thing: there are no page views.
    """

    def is_wanted(page: dict, name: str) -> bool:
        return page["title"] in official and len(page["facts"][name][0]) > 1

    rows = []
    for i, (page, name) in enumerate(writer.take(n_wanted, is_wanted), first_id):
        answers = writer.accepted(page, name)
        subject = base_name(page["title"])
        # Keyed by column, so that the row and the header cannot drift apart.
        row = {
            "id": i,
            "subj": subject,
            "prop": name.replace("_", " "),
            "obj": answers[0],
            "subj_id": i,
            "prop_id": len(name),
            "obj_id": 100_000 + i,
            "s_aliases": json.dumps(page.get("aliases", [])),
            "o_aliases": json.dumps(answers[1:]),
            "s_uri": f"sample:s{i}",
            "o_uri": f"sample:o{i}",
            "s_wiki_title": page["title"],
            "o_wiki_title": answers[0],
            "s_pop": mentions.get(subject, 1),
            "o_pop": mentions.get(answers[0], 1),
            "question": writer.question(page, name),
            "possible_answers": json.dumps(answers),
        }
        rows.append([row[column] for column in POPQA_HEADER])
    return rows


POPQA_HEADER = (
    "id subj prop obj subj_id prop_id obj_id s_aliases o_aliases s_uri o_uri "
    "s_wiki_title o_wiki_title s_pop o_pop question possible_answers"
).split()


def count_mentions(pages: list[dict]) -> dict[str, int]:
    """By page name and by value, the number of pages that name it."""
    texts = [tokenize(" ".join(page["sentences"])) for page in pages]
    names = {base_name(page["title"]) for page in pages}
    for page in pages:
        names |= {value for value, _ in page["facts"].values()}
    mentions = {}
    for name in sorted(names):
        mentions[name] = sum(contains_tokens(text, tokenize(name)) for text in texts)
    return mentions


@dataclass(frozen=True)
class Part:
    """One official side of the sample: its file names, and the first id of its rows."""

    name: str
    fever: str
    hotpot: str
    nq: str
    first_id: int


PARTS = (
    Part("train", "train.jsonl", "hotpot_train_v1.1.json", "NQ-open.train.jsonl", 1),
    Part("dev", "shared_task_dev.jsonl", "hotpot_dev_distractor_v1.json", "NQ-open.dev.jsonl", 5001),
)


def write_part(raw: Path, part: Part, writer: Writer, mentions: dict[str, int]) -> tuple[list, list]:
    """Write the part's own files; return its rows of the files that both parts share (contexts, PopQA)."""
    n = N_PER_PART[part.name]
    hotpot = bridge_rows(writer, n["bridge"]) + compare_rows(writer, n["compare"])
    writer.rng.shuffle(hotpot)
    nq, contexts = nq_rows(writer, n["nq"])
    fever = fever_rows(writer, n["fever"], n["nei"], part.first_id)

    # PopQA has no official split: its rows ask about pages that an official row of this side asks about.
    # Without that, pages of the dev side with no other question reached train (docs/log.md).
    official = {context["positive_ctxs"][0]["title"] for context in contexts}
    official |= {title for title in map(fever_title, fever) if title}
    popqa = popqa_rows(writer, official, n["popqa"], mentions, part.first_id)

    write_jsonl(raw / "fever" / part.fever, fever)
    hotpot = [{"_id": f"{part.name}{i:04d}", **row} for i, row in enumerate(hotpot)]
    write_json_lines_array(raw / "hotpotqa" / part.hotpot, hotpot)
    write_jsonl(raw / "nq_open" / part.nq, nq)
    counts = f"fever {len(fever)}, hotpotqa {len(hotpot)}, nq_open {len(nq)}, popqa {len(popqa)}"
    print(f"{part.name}: {len(writer.pages)} pages, {counts}")
    return contexts, popqa


def main(args: argparse.Namespace) -> None:
    kinds, pages = read_facts()
    problems = page_problems(kinds, pages)
    if problems:
        sys.exit("\n".join(problems))
    if args.check:
        n_facts = sum(len(page["facts"]) for page in pages)
        sizes = [len(component) for component in mention_components(pages)]
        print(f"{len(pages)} pages, {n_facts} facts, largest components {sizes[:8]}")
        return

    # One generator for all files: their order below is part of the sample.
    rng = random.Random(SEED)
    pages_of = split_parts(pages, rng)
    raw = HERE / "raw"
    mentions = count_mentions(pages)
    write_wiki(raw / "fever/wiki-pages.zip", pages)
    contexts = []
    popqa = []
    for part in PARTS:
        writer = Writer(kinds, pages_of[part.name], rng)
        more_contexts, more_popqa = write_part(raw, part, writer, mentions)
        contexts += more_contexts
        popqa += more_popqa

    write_json_lines_array(raw / "nq_open/nq-contexts.json", contexts)
    table = io.StringIO()
    csv.writer(table, delimiter="\t", lineterminator="\n").writerows([POPQA_HEADER, *popqa])
    write_text(raw / "popqa/popQA.tsv", table.getvalue())


def write_json_lines_array(path: Path, rows: list[dict]) -> None:
    """A JSON array with one row per line: the original format, and readable in a diff."""
    write_text(path, "[" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "]\n")


if __name__ == "__main__":
    main(build_parser().parse_args())
