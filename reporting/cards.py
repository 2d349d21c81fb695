"""The sample browser: what each card shows, which cards fit into the page, and their order.

Everything is plain text here. The templates make HTML of it, and escape what models and sources wrote.
"""

from collections.abc import Callable
from urllib.parse import quote

from reporting.answered import GOOD, Answered
from utils.scoring import outcome
from utils.text import answer_pattern, tokenize

# Character limits for chunks that are neither support nor cited, tried in turn until the page fits.
_CUTS = (100_000, 300, 120, 0)
# More cards than this never fit: a card has over 1.4 kB.
_MAX_CARDS = 2000
_N_PROBED = 50
# A longer answer of a model is not marked in the evidence: it would color most of the chunk it copies.
_MAX_MARKED_TOKENS = 12
_MAX_RAW = 400


def anchor(sample_id: str) -> str:
    """The id of a sample's card, which a link can name. Percent-encoded, so any sample id has one."""
    return "s-" + quote(sample_id, safe="")


def marked(text: str, accepted: list[str], given: list[str]) -> list[tuple[str, str]]:
    """The text in pieces (text, mark): `answer` for an accepted answer, `given` for another of a model."""
    accepted_pattern = answer_pattern(accepted)
    pattern = answer_pattern([*accepted, *given])
    if pattern is None:
        return [(text, "")]
    pieces = []
    end = 0
    # On the plain text: in escaped text an answer "2" would match inside "&#x27;".
    for match in pattern.finditer(text):
        is_accepted = accepted_pattern is not None and accepted_pattern.fullmatch(match[0])
        pieces += [(text[end : match.start()], ""), (match[0], "answer" if is_accepted else "given")]
        end = match.end()
    return [piece for piece in [*pieces, (text[end:], "")] if piece[0]]


# --- one card


def _reply(row: Answered, name: str) -> dict:
    """One model's line: outcome, answer, citations, confidence; the raw text of an invalid completion."""
    parsed = row.parsed[name]
    words = outcome(parsed, row.sample)
    about = ""
    if parsed.answer is not None:
        cited = ", ".join("not shown" if i < 0 else str(i) for i in parsed.citations) or "none"
        confidence = "not stated" if parsed.confidence is None else f"{parsed.confidence:g}"
        about = f"cites {cited}, confidence {confidence}"
    is_shown_raw = parsed.answer is None or not parsed.is_valid
    raw = row.completions[name][:_MAX_RAW] or "(empty)"
    return {
        "model": name,
        "outcome": words,
        "is_good": words in GOOD,
        "answer": parsed.answer or "",
        "about": about,
        "raw": raw if is_shown_raw else "",
    }


def _chunks(row: Answered, cut: int) -> list[dict]:
    answers = [parsed.answer for parsed in row.parsed.values() if parsed.is_answer and parsed.answer]
    given = [answer for answer in answers if len(tokenize(answer)) <= _MAX_MARKED_TOKENS]
    chunks = []
    for i, chunk in enumerate(row.sample["evidence_chunks"]):
        is_support = i in row.sample["support_spans"]
        cited_by = [name for name, parsed in row.parsed.items() if i in parsed.citations]
        text = chunk["text"]
        if not is_support and not cited_by and len(text) > cut:
            text = text[:cut] + " …"
        pieces = marked(text, row.sample["answer_aliases"], given)
        found = {"i": i, "title": chunk["title"], "is_support": is_support, "cited_by": cited_by}
        chunks.append({**found, "pieces": pieces})
    return chunks


def card(row: Answered, cut: int = _CUTS[0]) -> dict:
    """All that a card shows. `cut`: characters of a chunk that is neither support nor cited."""
    sample = row.sample
    removed = sample["metadata"].get("gold_aliases")
    kinds = []
    if not row.is_good:
        kinds.append("failure")
    if row.models_disagree:
        kinds.append("disagree")
    if row.is_miscited:
        kinds.append("miscited")
    return {
        "anchor": anchor(sample["id"]),
        "id": sample["id"],
        "source": sample["source"],
        "question": sample["question"],
        "outcome": row.outcome,
        "is_good": row.is_good,
        "kinds": " ".join(kinds),
        "gold": sample["answer"],
        "removed": removed[0] if removed and not sample["answerable"] else "",
        "replies": [_reply(row, name) for name in row.parsed],
        "chunks": _chunks(row, cut),
    }


# --- all cards


def _evenly(rows: list, n: int) -> list:
    """`n` rows at even steps, so that they come from all parts of the list."""
    return [rows[i * len(rows) // n] for i in range(n)]


def fitting_cards(
    answered: list[Answered], render: Callable[[dict], str], max_bytes: int
) -> tuple[list[str], str]:
    """(rendered cards of at most `max_bytes` together, failures first; what was cut, in words).

    Chunks that are neither support nor cited are shortened first; then samples are left out at even steps,
    so that the share of failures stays as it is.
    """
    # Sorting keeps the order of the file within failures and within the others.
    ordered = sorted(answered, key=lambda row: row.is_good)
    rows = _evenly(ordered, min(len(ordered), _MAX_CARDS)) if ordered else []
    probe = _evenly(rows, min(len(rows), _N_PROBED)) if rows else []
    cards: list[str] = []
    sizes: list[int] = []
    for cut in _CUTS:
        # Most cuts are ruled out by a few cards: every stage renders this page at its end.
        of_probe = sum(len(render(card(row, cut)).encode()) for row in probe)
        if of_probe * len(rows) > 1.1 * max_bytes * len(probe) and cut != _CUTS[-1]:
            continue
        cards = [render(card(row, cut)) for row in rows]
        sizes = [len(text.encode()) for text in cards]
        if sum(sizes) <= max_bytes:
            break
    n_kept = len(cards)
    while n_kept > 1 and sum(_evenly(sizes, n_kept)) > max_bytes:
        n_kept = n_kept * 9 // 10
    notes = []
    if n_kept < len(ordered):
        notes.append(f"{n_kept:,} of {len(ordered):,} samples, at even steps through failures and others")
    if cut < _CUTS[0] and rows:
        notes.append(f"chunks that are neither support nor cited are cut to {cut} characters")
    return _evenly(cards, n_kept) if cards else [], "; ".join(notes)
