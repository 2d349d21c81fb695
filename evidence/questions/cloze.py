"""Questions for a date, a place, a maker or a number: "X was built in 1926" -> "when was X built".

The syntax is looked at; the relation is not known.
"""

import re
from collections.abc import Iterator

from evidence.questions.clauses import PARTICIPLE, PAST, Clause, clauses, infinitive, is_closed
from evidence.questions.definitions import definition_facts
from evidence.questions.fact import Fact
from evidence.questions.phrases import place_forms
from evidence.questions.sentences import PageSentence
from evidence.questions.spans import DATE, DATE_RE, NUMBER, PLACE
from evidence.questions.works import by_name

_END = r"(?=$|[,;:])"
_MAX_WORDS = 12
_PASSIVE = re.compile(rf"(?P<aux>was|were|is|are) (?P<rest>(?:[a-z]+ly )?{PARTICIPLE} .+)$")
_PREPOSITION = re.compile(r" (?=(in|on|at|by) )")
_DATE_FIRST = re.compile(rf"(?:in|on) (?:early |late )?({DATE}){_END}")
_PLACE_LAST = re.compile(rf"(?:in|at) ({PLACE})$")
# "Featured in X": no place.
_NO_PLACE = re.compile(
    r"\b(?:featured|starred|appeared|included|mentioned|used|interested|involved|covered|credited|cast|role|"
    r"star)\b"
)
_MADE = re.compile(rf"(?:[a-z]+ly )?{PARTICIPLE}$")
_ACTIVE = re.compile(rf"(?P<verb>{PAST})\b(?P<rest>.*)$")
_DATE_LAST = re.compile(rf"(?P<what>[^,]*?) (?:in|on) (?P<date>{DATE})$")
_DATE_WITHIN = re.compile(rf"(?P<what>[^,;]{{8,110}}?) (?:in|on) (?P<date>{DATE}){_END}")
_COUNT_VERBS = {
    **{"has": "does have", "have": "do have", "had": "did have", "contains": "does contain"},
    **{"includes": "does include", "comprises": "does comprise", "consists of": "does consist of"},
    **{"features": "does feature", "won": "did win", "scored": "did score", "sold": "did sell"},
    **{"received": "did receive"},
}
_COUNT = re.compile(
    rf"(?P<verb>{'|'.join(_COUNT_VERBS)}) (?:about |around |over |approximately |a total of )?"
    rf"(?P<n>{NUMBER}) "
    r"(?P<what>(?!of |in |to |and |or |times)(?:[a-z-]+ ){0,2}[a-z-]+s)(?P<rest>"
    rf"{_END}| (?:in|on|at|of|from|for|to|by)\b[^,]*)"
)


def _dated(clause: Clause, date: str, ask: str, told: str, about: str) -> Fact:
    """`ask`: "was X built", `told`: "X was built"."""
    is_year = date.isdigit()
    asked = (
        f"{'what year' if is_year else 'when'} {ask}",
        f"{'in which year' if is_year else 'on what date'} {ask}",
        f"{told} {'in which year' if is_year else 'when'}",
    )
    return clause.fact("when", (date,), asked, about, answer_type="date")


def _passive(clause: Clause) -> Iterator[Fact]:
    """ "X was built in brick in 1926": when; "in Rome": where; "by Y": by whom."""
    match = _PASSIVE.match(clause.main)
    if not match:
        return
    aux = match["aux"]
    rest = match["rest"]
    x = clause.subject
    if clause.when:
        what = rest.split(",")[0]
        if len(what.split()) <= _MAX_WORDS:
            yield _dated(clause, clause.when, f"{aux} {x} {what}", f"{x} {aux} {what}", what)
        return
    for gap in _PREPOSITION.finditer(rest):
        what = rest[: gap.start()]
        after = rest[gap.end() :]
        if "," in what or len(what.split()) > _MAX_WORDS:
            continue
        if date := _DATE_FIRST.match(after):
            yield _dated(clause, date[1], f"{aux} {x} {what}", f"{x} {aux} {what}", what)
        elif place := _PLACE_LAST.match(after):
            if not DATE_RE.search(place[1]) and not _NO_PLACE.search(what):
                ask = f"where {aux} {x} {what}"
                asked = (ask, ask, f"{x} {aux} {what} in what place")
                yield clause.fact("where", place_forms(place[1]), asked, what, answer_type="place")
        elif gap[1] == "by" and _MADE.match(what) and (name := by_name(after[3:])):
            asked = (f"who {aux} {x} {what} by", f"by whom {aux} {x} {what}", f"{x} {aux} {what} by whom")
            yield clause.fact("by", (name,), asked, what)


def _active(clause: Clause, words: dict[str, int]) -> Iterator[Fact]:
    """ "X moved to Rome in 1926": when did X move to Rome."""
    match = _ACTIVE.match(clause.main)
    base = infinitive(match["verb"], words) if match else None
    if not match or not base:
        return
    date = clause.when
    what = match["rest"]
    last = _DATE_LAST.match(what)
    if last and not date:
        date = last["date"]
        what = last["what"]
    if date and "," not in what and len(what.split()) <= _MAX_WORDS:
        ask = f"did {clause.subject} {base}{what}"
        told = f"{clause.subject} {match['verb']}{what}"
        yield _dated(clause, date, ask, told, f"{match['verb']} {what}")


def _in_situ(clause: Clause) -> Iterator[Fact]:
    """ "X reached its peak in 1926": X reached its peak in which year."""
    match = _DATE_WITHIN.match(clause.predicate)
    if match and not clause.when and not DATE_RE.search(match["what"]):
        how = "in which year" if match["date"].isdigit() else "when"
        ask = f"{clause.subject} {match['what']} {how}"
        yield clause.fact("when", (match["date"],), (ask, ask, ask), match["what"], answer_type="date")


def _counted(clause: Clause) -> Iterator[Fact]:
    """ "X has 32 teams": how many teams does X have."""
    match = _COUNT.match(clause.main)
    if not match:
        return
    x = clause.subject
    what = match["what"]
    rest = match["rest"]
    auxiliary, base = _COUNT_VERBS[match["verb"]].split(" ", 1)
    ask = f"how many {what} {auxiliary} {x} {base}{rest}"
    told = f"{x} {match['verb']} how many {what}{rest}"
    yield clause.fact("count", (match["n"],), (ask, ask, told), what, answer_type="number")


def cloze_facts(sentence: PageSentence, words: dict[str, int]) -> list[Fact]:
    """All questions of a sentence. `words`: how often each word occurs, by which infinitives are known."""
    found: list[Fact] = []
    for clause in clauses(sentence):
        found += [*_passive(clause), *_active(clause, words), *_counted(clause), *definition_facts(clause)]
        if not any(fact.answer_type == "date" for fact in found):
            found += _in_situ(clause)
    return [fact for fact in found if is_closed(fact)]
