"""Which of the built samples a data set keeps: the wanted share of unanswerable ones, and few easy claims.

It chooses among finished samples, and knows nothing about what makes one answerable.
"""

import hashlib
import math

from evidence.drops import SURPLUS_EASY, SURPLUS_UNANSWERABLE, Drops
from evidence.paraphrase import denies, is_named, stems, unstated
from evidence.queries import claim_of, query_of
from utils.schema import unit_of
from utils.text import chunk_text

# A sample and its twin, None without one.
Pair = tuple[dict, dict | None]

# Easy answerable claims per hard one. Most claims repeat the words of their evidence: with all of them, the
# chunk with most shared words would be the support of five claims in six (docs/log.md).
_EASY_PER_HARD = 1

# Share of them whose verdict the words do not tell either, where there are that many.
_UNTOLD_OF_EASY = 1 / 3

# Easy claims of a split that are kept in any case: a quick look at a few rows has hardly a hard one.
_MIN_EASY = 20


def order_key(seed: int, sample: dict) -> tuple[str, str]:
    """Sort key of a random order in which a twin follows its original."""
    text = f"{seed}:{unit_of(sample)}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(), sample["id"]


def _is_easy(sample: dict) -> bool:
    return sample["metadata"]["difficulty"] == "easy"


def _names_page_twice(sample: dict) -> bool:
    """True if a negative is from the support's page, or from another page that the question names."""
    titles = [chunk["title"] for chunk in sample["evidence_chunks"]]
    own = {titles[i] for i in sample["support_spans"]}
    query = query_of(sample)
    return any(titles[i] in own or is_named(titles[i], query) for i in sample["hard_negatives"])


def _support_text(sample: dict) -> str:
    """Titles and texts of the first support set."""
    chunks = [sample["evidence_chunks"][i] for i in sample["support_sets"][0]]
    return " ".join(map(chunk_text, chunks))


def _verdict_is_told(sample: dict) -> bool:
    """True if a claim is refuted exactly when its evidence lacks one of its names, numbers or denials.

    The rule that needs no training (docs/data.md, `unstated`).
    """
    claim = query_of(sample)
    text = _support_text(sample)
    is_doubtful = bool(unstated(claim, stems(text))) or (denies(claim) and not denies(text))
    return (sample["answer"] == "refuted") == is_doubtful


def is_annotation_doubtful(sample: dict) -> bool:
    """True for a refuted claim all of whose words are said, and a supported one that has a name more.

    Many of these are slips of FEVER's annotators (docs/log.md, hand check).
    """
    claim = query_of(sample)
    said = stems(_support_text(sample))
    if sample["answer"] == "refuted":
        return stems(claim) <= said and not denies(claim)
    return any(not word[0].isdigit() for word in unstated(claim, said))


def _without_surplus_easy(pairs: list[Pair]) -> list[Pair]:
    """The pairs of a source of claims with at most _EASY_PER_HARD easy answerable samples per hard one.

    Of the easy ones, a part are claims whose verdict is not told by what is missing in the evidence. Those of
    which a title alone does not tell the support come first, then those with a hard twin. A source without
    claims keeps all of its pairs.
    """
    answerable = [pair for pair in pairs if pair[0]["answerable"] and claim_of(pair[0])]
    easy = [pair for pair in answerable if _is_easy(pair[0])]
    n_kept = max(_MIN_EASY, math.ceil(_EASY_PER_HARD * (len(answerable) - len(easy))))
    easy.sort(key=lambda pair: (not _names_page_twice(pair[0]), pair[1] is None or _is_easy(pair[1])))
    told = []
    untold = []
    for pair in easy:
        if _verdict_is_told(pair[0]):
            told.append(pair)
        elif not is_annotation_doubtful(pair[0]):
            untold.append(pair)
    n_untold = min(len(untold), math.ceil(_UNTOLD_OF_EASY * n_kept))
    kept = untold[:n_untold] + told[: max(0, n_kept - n_untold)]
    surplus = {pair[0]["id"] for pair in easy} - {pair[0]["id"] for pair in kept}
    return [pair for pair in pairs if pair[0]["id"] not in surplus]


def choose_samples(built: list[Pair], fraction: float, seed: int, drops: Drops) -> list[dict]:
    """The samples of a split, with the wanted share of unanswerable ones per source, hard ones first.

    `built`: pairs of a sample and its twin (None without one). At least half of the unanswerable samples are
    twins, where that many could be built: a twin differs from its original in the support alone, so nothing
    else in it can give the refusal away.
    """
    chosen = []
    for source in sorted({sample["source"] for sample, _ in built}):
        of_source = [pair for pair in built if pair[0]["source"] == source]
        of_source.sort(key=lambda pair: order_key(seed, pair[0]))
        pairs = _without_surplus_easy(of_source)
        kept = {sample["id"] for sample, _ in pairs}
        for sample, _ in of_source:
            if sample["id"] not in kept:
                drops[source].drop(SURPLUS_EASY, sample["id"], sample["question"])

        answerable = [sample for sample, _ in pairs if sample["answerable"]]
        # Sorting is stable: within a difficulty the order stays random.
        own = sorted((sample for sample, _ in pairs if not sample["answerable"]), key=_is_easy)
        twins = sorted((twin for _, twin in pairs if twin), key=_is_easy)
        n_hard_own = sum(not _is_easy(sample) for sample in own)
        n_hard_twins = sum(not _is_easy(twin) for twin in twins)

        # fraction = n_wanted / (n_wanted + answerable), solved for n_wanted.
        n_wanted = round(len(answerable) * fraction / (1 - fraction))
        n_own = min(len(own), max(n_wanted - len(twins), n_wanted // 2))
        # Hard twins before easy rows of the source.
        n_own = min(n_own, max(n_hard_own, n_wanted - n_hard_twins))
        for sample in own[n_own:]:
            drops[source].drop(SURPLUS_UNANSWERABLE, sample["id"], sample["question"])
        chosen += answerable + own[:n_own] + twins[: n_wanted - n_own]
    return sorted(chosen, key=lambda sample: order_key(seed, sample))


def left_out(pairs: list[Pair], chosen: list[dict]) -> list[dict]:
    """The samples of these pairs, twins too, that `choose_samples` has not chosen."""
    ids = {sample["id"] for sample in chosen}
    built = [sample for pair in pairs for sample in pair if sample]
    return [sample for sample in built if sample["id"] not in ids]
