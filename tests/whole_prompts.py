"""The six prompts of the `sample` fixture, written out.

A template is read by people here, and a change of one character shows in a diff.
"""

EVIDENCE = (
    "[0] Marie Curie: She was born in Warsaw in 1867. [0]\n"
    "[1] Pierre Curie: He taught in Paris. [1]\n"
    "[2] Warsaw: The birthplace of Marie Curie is now a museum in Warsaw. [2]\n"
    "[3] Radium: The element glows in the dark. [3]\n"
)

SFT_DEFAULT = (
    "Answer the question from the numbered evidence alone. Reply with one JSON object and nothing "
    "else:\n"
    '{"answer": "a few words copied from the evidence", "citations": [numbers of the evidence used], '
    '"confidence": 0.0 to 1.0}\n'
    'For a claim the answer is "supported" or "refuted", for a yes/no question "yes" or "no". If the '
    "evidence does not hold the answer, reply\n"
    '{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [], "confidence": 0.0}\n'
    "\n"
    "Question: Where was Marie Curie born?\n"
    "\n"
    "Evidence:\n" + EVIDENCE + "\n"
    "Question: Where was Marie Curie born?\n"
    "Answer:"
)

SFT_EVIDENCE_FIRST = (
    "Answer the question from the numbered evidence alone. Reply with one JSON object and nothing "
    "else:\n"
    '{"answer": "a few words copied from the evidence", "citations": [numbers of the evidence used], '
    '"confidence": 0.0 to 1.0}\n'
    'For a claim the answer is "supported" or "refuted", for a yes/no question "yes" or "no". If the '
    "evidence does not hold the answer, reply\n"
    '{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [], "confidence": 0.0}\n'
    "\n"
    "Evidence:\n" + EVIDENCE + "\n"
    "Question: Where was Marie Curie born?\n"
    "Answer:"
)

SFT_BRIEF = (
    'Answer from the numbered evidence alone, as JSON: {"answer": "words of the evidence", '
    '"citations": [numbers], "confidence": 0.0 to 1.0}\n'
    'A claim is "supported" or "refuted". Without enough evidence the answer is '
    '"[INSUFFICIENT_EVIDENCE]", citations [].\n'
    "\n"
    "Evidence:\n" + EVIDENCE + "\n"
    "Question: Where was Marie Curie born?\n"
    "Answer:"
)

SFT_STRUCTURED = (
    "## Task\n"
    "Answer the question from the numbered evidence alone.\n"
    "\n"
    "## Rules\n"
    '1. Copy the answer from the evidence, in a few words. For a claim it is "supported" or "refuted", '
    'for a yes/no question "yes" or "no".\n'
    "2. Cite the number of every evidence chunk the answer rests on, and no other.\n"
    "3. Give your confidence from 0.0 to 1.0.\n"
    "4. If the evidence does not hold the answer, the answer is [INSUFFICIENT_EVIDENCE], with no "
    "citations and confidence 0.0.\n"
    "\n"
    "## Output\n"
    'One JSON object: {"answer": "...", "citations": [...], "confidence": ...}\n'
    "\n"
    "## Question\n"
    "Where was Marie Curie born?\n"
    "\n"
    "## Evidence\n" + EVIDENCE + "\n"
    "## Question\n"
    "Where was Marie Curie born?\n"
    "\n"
    "## Answer\n"
)

SFT_FEWSHOT = (
    "Answer the question from the numbered evidence alone. Reply with one JSON object and nothing "
    "else:\n"
    '{"answer": "a few words copied from the evidence", "citations": [numbers of the evidence used], '
    '"confidence": 0.0 to 1.0}\n'
    'For a claim the answer is "supported" or "refuted", for a yes/no question "yes" or "no". If the '
    "evidence does not hold the answer, reply\n"
    '{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [], "confidence": 0.0}\n'
    "\n"
    "Question: In which town was Ida Voll born?\n"
    "\n"
    "Evidence:\n"
    "[0] Ida Voll: She trained as a pharmacist and kept a diary for most of her life. [0]\n"
    "[1] Ida Voll: Born in Bergen in 1871, she went to sea with her father. [1]\n"
    "\n"
    "Question: In which town was Ida Voll born?\n"
    'Answer: <<{"answer": "Bergen", "citations": [1], "confidence": 0.9}>>\n'
    "\n"
    "Question: Who designed Kestrel Bridge?\n"
    "\n"
    "Evidence:\n"
    "[0] Kestrel Bridge: A toll was charged until the war. [0]\n"
    "[1] Osk Bridge: The engineer was Tomas Reed, who also laid out the harbour. [1]\n"
    "\n"
    "Question: Who designed Kestrel Bridge?\n"
    'Answer: <<{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [], "confidence": 0.0}>>\n'
    "\n"
    "Question: Is this claim supported or refuted by the evidence? The Glass Orchard came out in 1951.\n"
    "\n"
    "Evidence:\n"
    "[0] The Glass Orchard: The novel came out in 1932 and sold slowly. [0]\n"
    "[1] Lena Marsh: Lena Marsh published nothing after 1940. [1]\n"
    "\n"
    "Question: Is this claim supported or refuted by the evidence? The Glass Orchard came out in 1951.\n"
    'Answer: <<{"answer": "refuted", "citations": [0], "confidence": 0.9}>>\n'
    "\n"
    "Question: Where was Marie Curie born?\n"
    "\n"
    "Evidence:\n" + EVIDENCE + "\n"
    "Question: Where was Marie Curie born?\n"
    "Answer:"
)

JUDGE_DEFAULT = (
    "You compare two answers to a question. Only the numbered evidence counts, not what you know.\n"
    "The better answer is right according to the evidence and cites exactly the chunks that support "
    "it.\n"
    "When the evidence does not hold the answer, and only then, the better answer is "
    "[INSUFFICIENT_EVIDENCE].\n"
    "\n"
    "Evidence:\n" + EVIDENCE + "\n"
    "Question: Where was Marie Curie born?\n"
    "\n"
    "Answer A: A1\n"
    "Answer B: B2\n"
    "\n"
    "Which answer is better? Reply with the letter A or B.\n"
    "Better answer:"
)

JUDGE_SIMPLE = (
    "Evidence:\n" + EVIDENCE + "\n"
    "Question: Where was Marie Curie born?\n"
    "\n"
    "A: A1\n"
    "B: B2\n"
    "\n"
    "Which one is better supported by the evidence, A or B?\n"
    "Better:"
)

# By (kind, name); the judge compares the completions "A1" and "B2".
WHOLE_PROMPTS = {
    ("sft", "default"): SFT_DEFAULT,
    ("sft", "structured"): SFT_STRUCTURED,
    ("sft", "fewshot"): SFT_FEWSHOT,
    ("sft", "evidence_first"): SFT_EVIDENCE_FIRST,
    ("sft", "brief"): SFT_BRIEF,
    ("judge", "default"): JUDGE_DEFAULT,
    ("judge", "simple"): JUDGE_SIMPLE,
}
