from pathlib import Path


def write_tables(results: Path, page: Path) -> None:
    pass
