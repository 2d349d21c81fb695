"""Questions -> replies: a checkpoint that is loaded once, and asked about documents.

The terminal, the web page and other programs call the same function. It knows no terminal and no page.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from asking.checkpoint import AskSettings
from asking.documents import Document
from asking.judging import Shown, judge, split_question
from asking.passages import Passage, PassageIndex
from asking.reply import Reply
from evidence.orders import agreed, build_showing, chunk_orders
from generation.answering import load_generator
from generation.constrained import Schema, SchemaGuide
from generation.decisions import decision_biases
from generation.drafting import Drafter
from generation.engine import GenerationSettings, generate
from generation.predicted import answer_probability
from models.choices import LoadOptions
from models.hardware import weights_precision
from models.loading import load_tokenizer
from models.positions import prompt_limit
from utils.calibration import precision_warning
from utils.completions import render_completion
from utils.errors import DataError, UsageError
from utils.runs import note
from utils.text import REFUSAL
from utils.tokens import decode, encode_completion

# Enough for the longest answer that the schema allows, and the keys around it.
_MAX_NEW_TOKENS = 160


class Asker:
    """A checkpoint that answers questions about documents.

    `make_builder(tokenizer, template, max_tokens)` gives a prompt_schema.PromptBuilder, handed in because
    packages import no script.
    """

    def __init__(
        self,
        model_dir: str,
        settings: AskSettings,
        make_builder: Callable,
        options: LoadOptions = LoadOptions(),
    ):
        self.settings = settings
        self._tokenizer = load_tokenizer(model_dir)
        self._model = load_generator(model_dir, options)
        if warning := precision_warning(settings.calibration, weights_precision(options)):
            note(warning)
        self._max_tokens = prompt_limit(self._model, settings.max_prompt_tokens, _MAX_NEW_TOKENS)
        self._builder = make_builder(self._tokenizer, settings.template, self._max_tokens)
        # Made once: reading the whole vocabulary takes as long as an answer.
        self._schema = Schema(self._tokenizer, self._model.device)
        # The index of the last documents: a conversation asks about the same ones.
        self._indexed: tuple[list[Document], PassageIndex] | None = None

    def index(self, documents: list[Document]) -> PassageIndex:
        """The passages of the documents, made once for the same list."""
        if self._indexed is None or self._indexed[0] is not documents:
            self._indexed = (documents, PassageIndex(documents, self.settings.sizes.max_chunk_words))
        return self._indexed[1]

    def ask(self, question: str, documents: list[Document], min_confidence: float | None = None) -> Reply:
        """The reply to one question, or to `claim: ...`. UsageError for an empty question.

        `min_confidence` (0-1) takes the place of that of the settings.
        """
        started = time.monotonic()
        asked, query = split_question(question)
        index = self.index(documents)
        ranked = index.nearest(query, self.settings.sizes.max_chunks)
        # In the order of the text: what a passage refers back to comes before it.
        passages = sorted(ranked, key=index.place)
        prompt, completion, probability = self._answer(asked, passages)
        settings = self.settings
        if min_confidence is not None:
            settings = replace(settings, min_confidence=min_confidence)
        return replace(
            judge(completion, probability, Shown(prompt, passages, ranked), settings),
            question=question,
            n_passages=len(index.passages),
            seconds=time.monotonic() - started,
        )

    def _build_prompt(self, question: str, passages: list[Passage], order: list[int]):
        """The prompt that shows the passages in this order; `shown` has their places in `passages`."""
        chunks = [{"title": passage.title, "text": passage.text} for passage in passages]
        sample = {"id": "question", "question": question, "evidence_chunks": chunks}
        try:
            return build_showing(self._builder, sample, order)
        except DataError:
            raise UsageError(
                f"the question is too long for this checkpoint's {self._max_tokens} tokens; shorten it"
            ) from None

    def _answer(self, question: str, passages: list[Passage]) -> tuple[Any, str, float]:
        """(prompt, its completion, the probability of the answer): of several orders what they agree on."""
        orders = chunk_orders(len(passages), self.settings.orders)
        prompts = [self._build_prompt(question, passages, order) for order in orders]
        rows = []
        for i, (completion, probability) in enumerate(self._complete(prompts, question)):
            row = {"completion": completion, "shown": prompts[i].shown, "probability": probability}
            rows.append(row | {"prompt": prompts[i]})
        row = agreed(rows)
        return row["prompt"], row["completion"], row["probability"]

    def _complete(self, prompts: list, question: str) -> list[tuple[str, float]]:
        """(completion, probability of its answer) of each: greedy, and always within the output schema."""
        examples = (render_completion(REFUSAL, [], 0.0), render_completion("supported", [0], 0.9))
        drafter = Drafter([encode_completion(self._tokenizer, text) for text in examples])
        asked = [{"question": question, "metadata": {}}] * len(prompts)
        biases = decision_biases(self._tokenizer, self.settings.decisions, asked, prompts)
        settings = GenerationSettings(len(prompts), max_new_tokens=_MAX_NEW_TOKENS, biases=biases)

        def guide(i: int) -> SchemaGuide:
            return SchemaGuide(self._schema, drafter, len(prompts[i].shown))

        suffixes = [prompt.suffix for prompt in prompts]
        found = {}
        for batch in generate(self._model, self._tokenizer, suffixes, guide, prompts[0].prefix, settings):
            for i, generated in batch:
                text = decode(self._tokenizer, generated.ids)
                found[i] = (text, answer_probability(self._tokenizer, generated))
        return [found[i] for i in range(len(prompts))]
