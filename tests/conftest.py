"""Fixtures that several folders of tests share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from bigr.cli.configuration import config_dir, register_resolvers
from tests.inception import accept_any_inception, save_random_inception

REPOSITORY = Path(__file__).parents[1]
CONFORMANCE = REPOSITORY / "tests" / "conformance" / "data"


@pytest.fixture(scope="session")
def conformance() -> Path:
    """Folder with weights, inputs and outputs of the released code; see its README."""
    return CONFORMANCE


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same global random state."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _open_log_streams() -> None:
    """No test logs to a stream that an earlier one has closed, or to a file in a deleted folder."""
    named = logging.root.manager.loggerDict.values()
    for logger in [logging.root, *(one for one in named if isinstance(one, logging.Logger))]:
        for handler in list(logger.handlers):
            is_closed = getattr(getattr(handler, "stream", None), "closed", False)
            file = getattr(handler, "baseFilename", os.curdir)
            if is_closed or not os.path.isdir(os.path.dirname(file) or os.curdir):
                logger.removeHandler(handler)


@pytest.fixture
def composing() -> Iterator[None]:
    """Let ``hydra.compose`` find the configuration of the package."""
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """File with random weights for Inception."""
    path = tmp_path_factory.mktemp("inception") / "inception.pth"
    save_random_inception(path)
    yield path
    path.unlink()


@pytest.fixture
def random_inception(inception_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File with random weights for Inception that is accepted in place of the published one."""
    accept_any_inception(monkeypatch.setattr)
    return inception_weights


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many cases the tests of tests/robustness had."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    # A fixture counts them, so the last report of each test has them.
    counts = [
        value
        for report in reports
        if getattr(report, "when", None) == "teardown"
        for name, value in report.user_properties
        if name == "robustness_cases"
    ]
    if counts:
        terminalreporter.write_line(f"robustness: {sum(counts):,} cases")
