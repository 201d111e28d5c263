"""The sample of Fashion-MNIST that is part of this project, as torchvision looks for data."""

import atexit
import gzip
import shutil
import tempfile
from pathlib import Path

from pytorch_intro.config.paths import PROJECT

SAMPLE = PROJECT / "src" / "pytorch_intro" / "data" / "sample"


def sample_root() -> str:
    """A folder for this process alone that holds the files where torchvision.datasets.FashionMNIST looks for them."""
    root = Path(tempfile.mkdtemp(prefix="tour-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for archive in SAMPLE.glob("*.gz"):
        (raw / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
    return str(root)
