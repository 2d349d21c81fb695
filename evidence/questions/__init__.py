"""From the sentences of training pages to questions about them (`build_data.py --made questions`)."""

# First, so that a missing package is told in one line (utils/__init__.py).
import utils as utils
