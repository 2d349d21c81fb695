"""Evidence in DPR layout (Karpukhin et al., 2020): the contexts of a row -> passages.

    {"ctxs": [{"title", "text", "isgold"?}, ...]}
    {"positive_ctxs": [...], "hard_negative_ctxs": [...], "negative_ctxs": [...]}

Contexts files and the user's own rows have it.
"""

from evidence.records import Passage, told_apart
from sources.fields import bad, field, items, text, title_text
from utils.text import split_sentences, without_entities

# Most contexts that are read from a row, by kind: DPR's training files list dozens of negatives, and of a
# question with many positives the first ones are nearest.
_MOST = {"ctxs": None, "positive_ctxs": 3, "hard_negative_ctxs": 10, "negative_ctxs": 10}
# Who writes rows of their own marks what supports the answer, so none of it is left out.
_MOST_OF_OWN = {**_MOST, "positive_ctxs": None}

# (title, text, whether the row marks it as gold)
Context = tuple[str, str, bool]


def whole_title(title: str) -> str:
    """A title that was cut inside its parenthesis, with the parenthesis closed.

    Dumps of retrieved passages strip the bracket from the end: "Wonder (film" is the page "Wonder (film)",
    and would otherwise be another page than the one of that name.
    """
    is_cut = title.count("(") == title.count(")") + 1 and title.rfind("(") > title.rfind(")")
    return f"{title})" if is_cut and not title.endswith("(") else title


def _is_marked(context: dict, name: str) -> bool:
    """Whether a context is marked as gold; some writers mark it with 0 and 1."""
    mark = context.get("isgold", False)
    if mark not in (None, False, True):
        raise bad(f"{name}.isgold", "true or false", mark)
    return bool(mark)


def check_contexts(row: dict, is_own: bool) -> list[Context]:
    """The contexts of a row that are read. ValueError names one that is malformed, also of the others.

    `is_own`: a row of the user's own questions, which may have no contexts at all. Else it is a row of a
    contexts file, where that is malformed, and at most three of its positives are read.
    """
    if not is_own and not _MOST.keys() & row.keys():
        raise ValueError(f"none of the fields {', '.join(_MOST)} is there")
    found: list[Context] = []
    for kind, n_most in (_MOST_OF_OWN if is_own else _MOST).items():
        checked = []
        for i, context in enumerate(items(row.get(kind, []), kind)):
            name = f"{kind}[{i}]"
            if not isinstance(context, dict):
                raise bad(name, "an object with title and text", context)
            title = title_text(field(context, "title", name), f"{name}.title")
            body = text(field(context, "text", name), f"{name}.text")
            if is_own:
                body = without_entities(body)
            is_gold = _is_marked(context, name) or kind == "positive_ctxs"
            checked.append((title, body, is_gold))
        found += checked[:n_most]
    return found


def to_passages(contexts: list[Context]) -> tuple[Passage, ...]:
    """The passages of checked contexts, those without text left out."""
    passages = []
    for title, body, is_gold in contexts:
        if body.strip():
            passages.append(Passage(whole_title(title), tuple(split_sentences(body)), is_gold))
    return told_apart(passages)
