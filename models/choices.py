"""Names that flags choose among. No model library is imported, so that a parser can show them at once."""

# What --attn-impl takes; `choose_attention` in models/hardware.py says what each becomes.
ATTENTION_FLAGS = ("auto", "eager", "sdpa", "flash2", "flash_attention_2", "flex")
