"""What tests/forked_stages.py imports once: the libraries that stages import, now or when they need them."""

import gc
import importlib

for _name in ("peft", "scipy.stats", "sklearn.metrics", "matplotlib.figure", "transformers", "datasets"):
    importlib.import_module(_name)
# What is imported here is no garbage of a child, whose collections would take a second each.
gc.freeze()
