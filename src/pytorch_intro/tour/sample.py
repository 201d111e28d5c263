"""The sample of Fashion-MNIST that comes with this project, in the layout that torchvision expects."""

import atexit
import gzip
import shutil
import tempfile
from pathlib import Path

from pytorch_intro.config.paths import PACKAGE

SAMPLE = PACKAGE / "data" / "sample"


def sample_root() -> str:
    """Return a new folder with the files where torchvision.datasets.FashionMNIST expects them, removed at exit."""
    root = Path(tempfile.mkdtemp(prefix="tour-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for archive in SAMPLE.glob("*.gz"):
        (raw / archive.stem).write_bytes(gzip.decompress(archive.read_bytes()))
    return str(root)
