"""Bundled sample: facts/*.yaml (true facts and sentences written for this project) -> raw/ in the four original formats.

Pages that mention one another stay on one side: a page of the official dev files is named in no page of the train files.
    python data/sample/make_sample.py            # rewrites data/sample/raw
    python data/sample/make_sample.py --check    # checks the facts only
"""

import argparse
import csv
import io
import json
import random
import re
import sys
import zipfile
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from utils.jsonl import write_jsonl, write_text  # noqa: E402
from utils.text import contains_tokens, tokenize  # noqa: E402

DEV_SHARE = 0.37  # of the pages; build_data makes val and test of them
# More than 30% of every source on the dev side, so that val and test are filled without touching a training page.
N_PER_PART = {
    "train": {"fever": 240, "nei": 100, "nq": 220, "popqa": 250, "bridge": 75, "compare": 75},
    "dev": {"fever": 130, "nei": 50, "nq": 115, "popqa": 130, "bridge": 45, "compare": 45},
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="check the facts files and write nothing")
    return parser


def base_name(title: str) -> str:
    """The title without its parenthesis: what running text calls the subject."""
    return re.sub(r"\s*\([^)]*\)$", "", title)


def read_facts() -> tuple[dict, list[dict]]:
    """All kinds by name, and all pages, each with its `kind` and `domain`."""
    kinds = {}
    pages = []
    for path in sorted((HERE / "facts").glob("*.yaml")):
        domain = yaml.safe_load(path.read_text(encoding="utf-8"))
        kinds |= domain["kinds"]
        pages += [{**page, "domain": domain["domain"]} for page in domain["pages"]]
    return kinds, pages


def page_problems(kinds: dict, pages: list[dict]) -> list[str]:
    """What is wrong with the facts: a value that is not in its sentence, a relation with too few phrasings, a title twice."""
    problems = []
    for kind, spec in kinds.items():
        for name, relation in spec["relations"].items():
            if len(set(relation["questions"])) < 6 or len(set(relation["claims"])) < 3:
                problems.append(f"{kind}.{name}: needs six questions and three claims")
    titles = [page["title"] for page in pages]
    problems += [f"{title}: two pages" for title in sorted({t for t in titles if titles.count(t) > 1})]
    for page in pages:
        if not contains_tokens(tokenize(page["sentences"][0]), tokenize(base_name(page["title"]))):
            problems.append(f"{page['title']}: the first sentence does not name it")
        for name, (value, line) in page["facts"].items():
            if not contains_tokens(tokenize(page["sentences"][line]), tokenize(value)):
                problems.append(f"{page['title']}: {name} {value!r} is not in sentence {line}")
    return problems


def mention_components(pages: list[dict]) -> list[list[int]]:
    """Page indices that hang together because one names another (or shares its name), largest component first."""
    names = [tokenize(base_name(page["title"])) for page in pages]
    texts = [tokenize(" ".join([page["title"], *page["sentences"], *page.get("nei", [])])) for page in pages]
    parent = list(range(len(pages)))

    def find(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

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
    """Components shared out over "train" and "dev", per domain so that both sides see every domain."""
    parts: dict[str, list[dict]] = {"train": [], "dev": []}
    counts: dict[str, dict[str, int]] = {}
    components = mention_components(pages)
    small = [c for c in components if len(c) <= 12]
    for component in components:
        if len(component) > 12:
            parts["train"] += [pages[i] for i in component]
            for i in component:
                counts.setdefault(pages[i]["domain"], {"train": 0, "dev": 0})["train"] += 1
    rng.shuffle(small)
    for component in small:
        count = counts.setdefault(pages[component[0]]["domain"], {"train": 0, "dev": 0})
        part = (
            "dev" if count["dev"] < DEV_SHARE * (count["dev"] + count["train"] + len(component)) else "train"
        )
        count[part] += len(component)
        parts[part] += [pages[i] for i in component]
    return parts


class Writer:
    """Turns the pages of one part into rows; every (page, relation) is asked about once until all are used."""

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
        """How text calls the page: without its parenthesis unless another page shares the name; animals in lower case."""
        shared = len(self.by_base[base_name(page["title"])]) > 1
        name = page["title"] if shared else base_name(page["title"])
        return name[0].lower() + name[1:] if self.kinds[page["kind"]].get("lowercase") else name

    def accepted(self, page: dict, name: str) -> list[str]:
        value = page["facts"][name][0]
        return [value, *page.get("value_aliases", {}).get(value, [])]

    def fill(self, template: str, **values: str) -> str:
        text = template.format(**values)
        return text[0].upper() + text[1:]

    def question(self, page: dict, name: str) -> str:
        return self.fill(self.rng.choice(self.relation(page, name)["questions"]), name=self.called(page))

    def take(self, n_wanted: int, wanted=lambda page, name: True) -> list[tuple[dict, str]]:
        taken = [fact for fact in self.facts if wanted(*fact)][:n_wanted]
        keys = {(page["title"], name) for page, name in taken}
        self.facts = [(p, n) for p, n in self.facts if (p["title"], n) not in keys]
        return taken

    def wrong_value(self, page: dict, name: str) -> str | None:
        """Another page's value of the same relation that does not contain, and is not contained in, an accepted one."""
        right = [tokenize(value) for value in self.accepted(page, name)]
        others = sorted(
            {p["facts"][name][0] for p in self.pages if p["kind"] == page["kind"] and name in p["facts"]}
        )
        usable = [
            v
            for v in others
            if not any(contains_tokens(r, tokenize(v)) or contains_tokens(tokenize(v), r) for r in right)
        ]
        return self.rng.choice(usable) if usable else None


def fever_rows(writer: Writer, n_claims: int, n_nei: int, first_id: int) -> list[dict]:
    """FEVER claims: supported, refuted by another page's value, and not enough info."""
    rows = []
    for i, (page, name) in enumerate(writer.take(n_claims)):
        value, line = page["facts"][name]
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
    for i, row in enumerate(rows, first_id):
        row["evidence"] = [[[i, None if e[1] is None else i, e[2], e[3]] for e in s] for s in row["evidence"]]
    return [{"id": i, **row} for i, row in enumerate(rows, first_id)]


def fever_id(title: str) -> str:
    return title.replace(" ", "_").replace("(", "-LRB-").replace(")", "-RRB-").replace(":", "-COLON-")


def write_wiki(path: Path, pages: list[dict]) -> None:
    """wiki-pages.zip: one jsonl member of {id, text, lines}; `lines` is number<TAB>sentence, brackets escaped."""
    rows = io.StringIO()
    for page in sorted(pages, key=lambda p: p["title"]):
        sentences = [s.replace("(", "-LRB-").replace(")", "-RRB-") for s in page["sentences"]]
        lines = "\n".join(f"{i}\t{s}" for i, s in enumerate([*sentences, ""]))
        rows.write(
            json.dumps(
                {"id": fever_id(page["title"]), "text": " ".join(sentences), "lines": lines},
                ensure_ascii=False,
            )
            + "\n"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        # A fixed date keeps the archive byte-identical from run to run.
        archive.writestr(
            zipfile.ZipInfo("wiki-pages/wiki-001.jsonl", (2026, 1, 1, 0, 0, 0)),
            rows.getvalue(),
            zipfile.ZIP_DEFLATED,
        )


def hotpot_row(
    writer: Writer, question: str, answer: str, kind: str, support: list[tuple[dict, int]]
) -> dict:
    """Distractor setting: the two gold pages among eight others, half of them of the same kinds."""
    gold = [page["title"] for page, _ in support]
    kinds = {page["kind"] for page, _ in support}
    others = [
        p
        for p in writer.pages
        if p["title"] not in gold and answer not in (p["title"], base_name(p["title"]))
    ]
    writer.rng.shuffle(others)
    near = [p for p in others if p["kind"] in kinds][:4]
    context = [page for page, _ in support] + near + [p for p in others if p not in near][: 8 - len(near)]
    writer.rng.shuffle(context)
    paragraphs = [
        [p["title"], [s if i == 0 else " " + s for i, s in enumerate(p["sentences"])]] for p in context
    ]
    facts = [[page["title"], line] for page, line in support]
    return {
        "answer": answer,
        "question": question,
        "supporting_facts": facts,
        "context": paragraphs,
        "type": kind,
        "level": "medium",
    }


def bridge_rows(writer: Writer, n_wanted: int) -> list[dict]:
    """`the author of X` put in place of the author's name in a question about the author's page."""
    chains = []
    for page in writer.pages:
        for name, (value, line) in page["facts"].items():
            target = writer.by_base.get(value, [])
            if "hop" in writer.relation(page, name) and len(target) == 1:
                phrase = writer.relation(page, name)["hop"].format(name=writer.called(page))
                chains += [(page, line, phrase, target[0], second) for second in target[0]["facts"]]
    writer.rng.shuffle(chains)
    rows = []
    for page, line, phrase, target, name in chains:
        value, second_line = target["facts"][name]
        own_text = tokenize(" ".join(page["sentences"]))
        usable = [
            q
            for q in writer.relation(target, name)["questions"]
            if not q.startswith("{name}'s") and "the {name}" not in q
        ]
        if (
            not usable
            or contains_tokens(own_text, tokenize(value))
            or contains_tokens(tokenize(value), tokenize(base_name(page["title"])))
        ):
            continue
        question = writer.fill(writer.rng.choice(usable), name=phrase)
        rows.append(hotpot_row(writer, question, value, "bridge", [(page, line), (target, second_line)]))
    return rows[:n_wanted]


def as_number(value: str) -> float | None:
    """The first number of a value; None for a text without one and for years before the common era."""
    match = re.search(r"\d+(?:\.\d+)?", value.replace(",", ""))
    return None if match is None or "BC" in value else float(match.group())


def compare_rows(writer: Writer, n_wanted: int) -> list[dict]:
    """Which of two is older, longer, ...; and yes/no questions about a shared value."""
    pairs = []
    for kind, spec in writer.kinds.items():
        pages = [page for page in writer.pages if page["kind"] == kind]
        for name, relation in spec["relations"].items():
            having = [page for page in pages if name in page["facts"]]
            pairs += [
                (kind, name, relation, a, b)
                for a in having
                for b in having
                if base_name(a["title"]) != base_name(b["title"])
            ]
    writer.rng.shuffle(pairs)
    rows: dict[str, list[dict]] = {"compare": [], "yes": [], "no": []}
    used: dict[str, int] = {}
    for _, name, relation, a, b in pairs:
        if used.get(a["title"], 0) + used.get(b["title"], 0) > 1:
            continue
        (value_a, line_a), (value_b, line_b) = a["facts"][name], b["facts"][name]
        support = [(a, line_a), (b, line_b)]
        names = {"a": writer.called(a), "b": writer.called(b)}
        numbers = as_number(value_a), as_number(value_b)
        if (
            relation.get("compare")
            and None not in numbers
            and numbers[0] != numbers[1]
            and len(rows["compare"]) < n_wanted // 2
        ):
            first_wins = (numbers[0] > numbers[1]) == (relation["compare_pick"] == "larger")
            answer = names["a"] if first_wins else names["b"]
            question = writer.fill(writer.rng.choice(relation["compare"]), **names)
            rows["compare"].append(hotpot_row(writer, question, answer, "comparison", support))
        elif relation.get("same"):
            verdict = "yes" if value_a == value_b else "no"
            overlap = contains_tokens(tokenize(value_a), tokenize(value_b)) or contains_tokens(
                tokenize(value_b), tokenize(value_a)
            )
            if (verdict == "no" and overlap) or len(rows[verdict]) >= n_wanted // 4:
                continue
            question = writer.fill(writer.rng.choice(relation["same"]), **names)
            rows[verdict].append(hotpot_row(writer, question, verdict, "comparison", support))
        else:
            continue
        for page in (a, b):
            used[page["title"]] = used.get(page["title"], 0) + 1
    return rows["compare"] + rows["yes"] + rows["no"]


def nq_rows(writer: Writer, n_wanted: int) -> tuple[list[dict], list[dict]]:
    """NQ-Open rows (lower case, no question mark) and their DPR-layout contexts."""
    rows = []
    contexts = []
    for page, name in writer.take(n_wanted, lambda page, name: len(page["facts"][name][0]) > 1):
        question = writer.question(page, name).rstrip("?").lower()
        answers = writer.accepted(page, name)
        wanted = [tokenize(answer) for answer in answers]
        others = [
            p
            for p in writer.pages
            if p is not page
            and not any(contains_tokens(tokenize(" ".join(p["sentences"])), w) for w in wanted)
        ]
        near = [p for p in others if p["kind"] == page["kind"]]
        negatives = writer.rng.sample(near, min(3, len(near)))
        passage = [{"title": p["title"], "text": " ".join(p["sentences"])} for p in [page, *negatives]]
        rows.append({"question": question, "answer": answers})
        contexts.append(
            {
                "question": question,
                "answers": answers,
                "positive_ctxs": passage[:1],
                "negative_ctxs": [],
                "hard_negative_ctxs": passage[1:],
            }
        )
    return rows, contexts


def fever_title(row: dict) -> str | None:
    """Title of the page that a claim's evidence names."""
    page_id = row["evidence"][0][0][2]
    return page_id and page_id.replace("_", " ").replace("-LRB-", "(").replace("-RRB-", ")").replace(
        "-COLON-", ":"
    )


def popqa_rows(
    writer: Writer, official: set[str], n_wanted: int, mentions: dict[str, int], first_id: int
) -> list[list]:
    """popQA.tsv rows. The popularity columns count the sample's own pages that name the thing: we have no page views."""
    rows = []
    for i, (page, name) in enumerate(
        writer.take(
            n_wanted, lambda page, name: page["title"] in official and len(page["facts"][name][0]) > 1
        ),
        first_id,
    ):
        answers = writer.accepted(page, name)
        subject = base_name(page["title"])
        aliases = json.dumps(answers[1:])
        subject_aliases = json.dumps(page.get("aliases", []))
        row = [
            i,
            subject,
            name.replace("_", " "),
            answers[0],
            i,
            len(name),
            100_000 + i,
            subject_aliases,
            aliases,
            f"sample:s{i}",
            f"sample:o{i}",
            page["title"],
            answers[0],
            mentions.get(subject, 1),
            mentions.get(answers[0], 1),
            writer.question(page, name),
            json.dumps(answers),
        ]
        rows.append(row)
    return rows


POPQA_HEADER = (
    "id subj prop obj subj_id prop_id obj_id s_aliases o_aliases s_uri o_uri s_wiki_title o_wiki_title s_pop o_pop question possible_answers"
).split()


def main(args: argparse.Namespace) -> None:
    kinds, pages = read_facts()
    if problems := page_problems(kinds, pages):
        sys.exit("\n".join(problems))
    if args.check:
        sizes = [len(c) for c in mention_components(pages)]
        print(
            f"{len(pages)} pages, {sum(len(p['facts']) for p in pages)} facts, largest components {sizes[:8]}"
        )
        return
    rng = random.Random(20261122)
    parts = split_parts(pages, rng)
    raw = HERE / "raw"
    popqa = []
    texts = [tokenize(" ".join(page["sentences"])) for page in pages]
    names = {base_name(p["title"]) for p in pages} | {v for p in pages for v, _ in p["facts"].values()}
    mentions = {name: sum(contains_tokens(text, tokenize(name)) for text in texts) for name in sorted(names)}
    write_wiki(raw / "fever/wiki-pages.zip", pages)
    all_contexts = []
    for part, fever_name, hotpot_name, nq_name in [
        ("train", "train.jsonl", "hotpot_train_v1.1.json", "NQ-open.train.jsonl"),
        ("dev", "shared_task_dev.jsonl", "hotpot_dev_distractor_v1.json", "NQ-open.dev.jsonl"),
    ]:
        writer = Writer(kinds, parts[part], rng)
        n = N_PER_PART[part]
        hotpot = bridge_rows(writer, n["bridge"]) + compare_rows(writer, n["compare"])
        rng.shuffle(hotpot)
        offset = 0 if part == "train" else 5000
        nq, contexts = nq_rows(writer, n["nq"])
        fever = fever_rows(writer, n["fever"], n["nei"], 1 + offset)
        # PopQA has no official split: its rows follow pages that an official row of this side asks about.
        official = {ctx["positive_ctxs"][0]["title"] for ctx in contexts} | {
            fever_title(row) for row in fever
        } - {None}
        popqa += popqa_rows(writer, official, n["popqa"], mentions, 1 + offset)
        write_jsonl(raw / "fever" / fever_name, fever)
        write_json_lines_array(
            raw / "hotpotqa" / hotpot_name, [{"_id": f"{part}{i:04d}", **row} for i, row in enumerate(hotpot)]
        )
        write_jsonl(raw / "nq_open" / nq_name, nq)
        all_contexts += contexts
        print(
            f"{part}: {len(parts[part])} pages, fever {len(fever)}, hotpotqa {len(hotpot)}, nq_open {len(nq)}, popqa so far {len(popqa)}"
        )
    write_json_lines_array(raw / "nq_open/nq-contexts.json", all_contexts)
    table = io.StringIO()
    csv.writer(table, delimiter="\t", lineterminator="\n").writerows([POPQA_HEADER, *popqa])
    write_text(raw / "popqa/popQA.tsv", table.getvalue())


def write_json_lines_array(path: Path, rows: list[dict]) -> None:
    """A JSON array with one row a line: the original format, and readable in a diff."""
    write_text(path, "[" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "]\n")


if __name__ == "__main__":
    main(build_parser().parse_args())
