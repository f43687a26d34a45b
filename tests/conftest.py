"""What every test gets: one thread, one seed, Ctrl-C, and skips that say what is missing."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    import torch

    torch.set_num_threads(1)
    # Started in the background of a script, this process and its children would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seed torch, so that random weights are the same in every run and order; skip tests marked
    `data` and `reference` where their files or packages are not there."""
    import torch

    torch.manual_seed(0)
    root = os.environ.get("TRAJGEN_DATA")
    if item.get_closest_marker("data") and not (root and Path(root).is_dir()):
        pytest.skip("needs data files: point TRAJGEN_DATA to them")
    if marker := item.get_closest_marker("reference"):
        missing = [name for name in marker.args if importlib.util.find_spec(name) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}: pip install 'trajgen[reference]'")
