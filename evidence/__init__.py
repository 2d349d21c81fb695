"""From records to samples with verified support."""

# First, so that a missing package is told in one line (utils/__init__.py).
import utils as utils
