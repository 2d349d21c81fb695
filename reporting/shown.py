"""What an evaluation shows at its end: tables, three samples, the verdict, and the page of --report."""

from pathlib import Path

from evaluation.best_of import best_of_text
from evaluation.tables import results_text
from reporting.answered import three_samples_text
from reporting.pipeline import write_report
from reporting.verdict import verdict_text
from utils.config import home_path


def show_results(output: Path, results: dict, report: str | None, answered: list | None = None) -> None:
    """Print the results, with samples where `answered` has them; write the page `report` from `output`."""
    blocks = [results_text(results)]
    if "best_of" in results:
        blocks.append(best_of_text(results["best_of"]))
    if answered is not None:
        blocks.append(three_samples_text(answered))
    print("\n\n".join([*blocks, verdict_text(results), ""]))
    if report:
        page = home_path(report)
        print(f"wrote {page} ({write_report(page, output)})")
