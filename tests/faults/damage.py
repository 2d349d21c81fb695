"""Ways in which a file is damaged, each a function of its path."""

from pathlib import Path


def delete(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path: Path) -> None:
    """Zeros in the size that it had: what some file systems leave of a write that a power cut interrupted."""
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES = {"deleted": delete, "cut": cut, "zeroed": zero}
