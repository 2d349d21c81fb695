"""The wiki pages nearest to each question, found while all pages pass once.

Every question has a heap of its best pages so far. A page is scored for all questions at once, by BM25 over
the question's stems, where each counts once in the text and once more in the title, and by a bonus if the
whole title is a run of the question's words. The rarity of a stem comes from a sample of the pages that is
read first, so that a page's score does not depend on the pages before it. Memory contains the pages in some
heap; there is no index of all pages. What supports an answer is decided later (evidence/unmarked.py).
"""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from evidence.paraphrase import asked_stems, forms_of, stem
from sources.page_words import bare_key, plain, title_runs, title_words, words_of

# Pages that a question keeps.
N_BEST = 10

# Okapi's parameters. A page of an average length has a weight of 1 per term; b is below the usual 0.75
# because a wiki page's introduction is no longer for repeating itself.
_K1 = 1.5
_B = 0.2

# A stem in more than this share of the pages is not scored, unless it is one of the question's rarest: such
# stems decide little, and they would make up most of the work.
_COMMON = 0.1
_N_RAREST = 3

# A page with less than this share of a question's weight is not kept even if the heap has room for it.
_LEAST = 0.3

# Characters of a page that are searched. Its beginning tells what it is about: with all of its text, 11 fewer
# of 1,616 gold pages were found, and the search took longer.
_MAX_CHARS = 600

# Weights are whole numbers of this fraction: their sums do not depend on the order of a page's words, as sums
# of floats do in the last digit.
_SCALE = 1024

# Pages scored at once. Small first batches, because floors rise with every batch.
_FIRST_BATCH = 64
_MAX_BATCH = 1024


@dataclass
class _KeptPage:
    """A page in `n_heaps` heaps, as text: most pages are pushed out again, so none is split yet."""

    lines: str
    n_heaps: int = 0


class PageSearch:
    """The best `n_best` pages of each question among the pages that were offered.

    `learn` a sample of the texts first, then `offer` every page, then call `finish`.
    """

    def __init__(self, questions: list[str], n_best: int = N_BEST):
        self.n_best = n_best
        self._typed = {word for question in questions for word in words_of(question)}
        self._asked = [sorted(asked_stems(plain(question))) for question in questions]
        self._runs = [title_runs(question) for question in questions]
        self._heaps: list[list[tuple[int, str]]] = [[] for _ in questions]
        self._kept: dict[str, _KeptPage] = {}

        # Stem -> row of the weight matrix, and every form of a stem -> the same row. From 1 on, since `offer`
        # filters out what is false.
        self._rows = {term: i for i, term in enumerate(sorted(set().union(*self._asked)), 1)}
        self._row_of_form: dict[bytes, int] = {}
        for term, i in self._rows.items():
            self._row_of_form.update({form.encode("utf-8"): i for form in forms_of(term)})
        # Forms have no accents, but texts do.
        for word in self._typed:
            row = self._rows.get(stem(word.decode("utf-8")))
            if row is not None:
                self._row_of_form[word] = row

        # The pages that wait to be scored together, by title: key, text, lines.
        self._waiting: dict[str, tuple[str, str, str]] = {}
        self._batch_size = _FIRST_BATCH

    def learn(self, texts: Iterable[str]) -> None:
        """Count in a sample of page texts how many contain each stem, and weigh the stems by it."""
        counts: Counter[int] = Counter()
        n_texts = 0
        n_words = 0
        seen = set(self._typed)
        for text in texts:
            words = words_of(text[:_MAX_CHARS])
            seen |= self._row_of_form.keys() & words
            counts.update(set(filter(None, map(self._row_of_form.get, words))))
            n_texts += 1
            n_words += len(words)
        # Most forms are no words. Without them the table fits into the processor's cache: half the time.
        self._row_of_form = {form: row for form, row in self._row_of_form.items() if form in seen}
        self._mean_words = max(n_words / max(n_texts, 1), 1.0)
        with_term = np.array([counts[row] for row in range(len(self._rows) + 1)], dtype=np.float64)
        self._idf = np.log1p((n_texts - with_term + 0.5) / (with_term + 0.5))
        self._is_common = with_term > _COMMON * n_texts
        self._weigh()

    def _scored_rows(self, i_question: int) -> list[int]:
        """Rows of the stems that count for a question: the rare ones, and the rarest of the others."""
        rows = sorted((self._rows[term] for term in self._asked[i_question]), key=lambda row: -self._idf[row])
        return [row for i, row in enumerate(rows) if i < _N_RAREST or not self._is_common[row]]

    def _weigh(self) -> None:
        """The weight matrix, (stems and title runs) x questions, and the score each heap starts from."""
        n_questions = len(self._asked)
        self._row_of_run: dict[str, int] = {}
        entries: list[tuple[int, int, int]] = []
        self._floors = np.zeros(n_questions, dtype=np.int64)
        for i in range(n_questions):
            weights = {row: round(_SCALE * self._idf[row]) for row in self._scored_rows(i)}
            self._floors[i] = max(int(_LEAST * _SCALE * sum(weights.values())), 1)
            entries += [(row, i, weight) for row, weight in weights.items()]
            for run in sorted(self._runs[i]):
                bonus = sum(weights.get(self._rows.get(stem(word), -1), 0) for word in set(run.split()))
                if bonus:
                    row = self._row_of_run.setdefault(run, len(self._rows) + 1 + len(self._row_of_run))
                    entries.append((row, i, bonus))
        rows, columns, values = zip(*entries) if entries else ((), (), ())
        shape = (len(self._rows) + 1 + len(self._row_of_run), n_questions)
        self._weights = csr_matrix((values, (rows, columns)), shape=shape, dtype=np.int64)
        # Only the stems that count for some question are looked up in the pages.
        is_used = np.diff(self._weights.indptr) > 0
        self._row_of_form = {form: row for form, row in self._row_of_form.items() if is_used[row]}

    def offer(self, title: str, key: str, text: str, lines: str) -> None:
        """Score a page for all questions. `key`: its title as `fever.title_key` writes it."""
        # A title may pass twice, once per file.
        if title not in self._kept:
            self._waiting[title] = (key, text[:_MAX_CHARS], lines)
        if len(self._waiting) >= self._batch_size:
            self._score_batch()

    def _batch_scores(self) -> csr_matrix:
        """Scores of the waiting pages, (pages, questions), sparse."""
        # Two runs of entries per page: stems of the text, then those of the title and its run.
        rows: list[int] = []
        n_rows: list[int] = []
        values: list[int] = []
        row_of_form = self._row_of_form.get
        for title, (key, text, _) in self._waiting.items():
            words = words_of(text)
            # A stem counts once in a text, however often its forms occur.
            in_text = set(filter(None, map(row_of_form, words)))
            in_title = list(filter(None, map(row_of_form, title_words(title))))
            run = self._row_of_run.get(bare_key(key))
            if run is not None:
                in_title.append(run)
            rows += in_text
            rows += in_title
            n_rows += (len(in_text), len(in_title))
            weight = (_K1 + 1) / (1 + _K1 * (1 - _B + _B * len(words) / self._mean_words))
            values += (round(_SCALE * weight), _SCALE)

        ends = np.concatenate([[0], np.cumsum(n_rows)[1::2]])
        entries = (np.repeat(values, n_rows), np.array(rows, dtype=np.int32), ends)
        return csr_matrix(entries, shape=(len(self._waiting), self._weights.shape[0])) @ self._weights

    def _score_batch(self) -> None:
        """Score the waiting pages and keep those that are among the best of some question."""
        scores = self._batch_scores()
        is_near = scores.data >= self._floors[scores.indices]
        i_pages = np.repeat(np.arange(scores.shape[0]), np.diff(scores.indptr))[is_near]
        near = zip(i_pages.tolist(), scores.indices[is_near].tolist(), scores.data[is_near].tolist())
        pages = [(title, lines) for title, (_, _, lines) in self._waiting.items()]
        for i_page, question, score in near:
            self._keep(question, score, *pages[i_page])
        self._waiting = {}
        self._batch_size = min(2 * self._batch_size, _MAX_BATCH)

    def _keep(self, question: int, score: int, title: str, lines: str) -> None:
        """Put a page into a question's heap if it is among the best; the page that has to go is let go."""
        heap = self._heaps[question]
        # The title breaks ties, so that the order of the pages does not.
        item = (score, title)
        if len(heap) == self.n_best and item < heap[0]:
            return
        page = self._kept.setdefault(title, _KeptPage(lines))
        page.n_heaps += 1
        if len(heap) < self.n_best:
            heapq.heappush(heap, item)
        else:
            _, pushed_out = heapq.heapreplace(heap, item)
            self._kept[pushed_out].n_heaps -= 1
            if not self._kept[pushed_out].n_heaps:
                del self._kept[pushed_out]
        if len(heap) == self.n_best:
            self._floors[question] = heap[0][0]

    def finish(self) -> tuple[list[list[str]], dict[str, str]]:
        """Titles of each question's pages, best first, and the `lines` of every such page by title."""
        if self._waiting:
            self._score_batch()
        titles = [[title for _, title in sorted(heap, reverse=True)] for heap in self._heaps]
        return titles, {title: page.lines for title, page in self._kept.items()}
