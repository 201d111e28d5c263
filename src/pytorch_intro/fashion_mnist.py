"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747) from wherever it is at hand, by its contents' checksums."""

import hashlib
import logging
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytorch_intro.atomic import atomic_write
from pytorch_intro.dataset import ImageDataset
from pytorch_intro.errors import UserError, leave
from pytorch_intro.idx import REMEDY, parse_idx, read_bytes
from pytorch_intro.paths import PROJECT, checked_root

log = logging.getLogger(__name__)

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

# SHA-256 of the idx files themselves: archives of the same content differ from one compressor to the next.
CHECKSUMS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

# Where Debian's and Ubuntu's package dataset-fashion-mnist puts its files.
SYSTEM_DIR = Path("/usr/share/datasets/fashion-mnist")

MIRROR_TIMEOUT = 20  # seconds without an answer


class FashionMNISTSample(ImageDataset):
    """160 training and 40 test images a class of Fashion-MNIST, part of this project.

    Args:
        root: Folder of the four idx files, gzipped.
        train: The training images, or else the test images.
    """

    def __init__(self, root: str, train: bool = True) -> None:
        files = [Path(root) / f"{name}.gz" for name in _names(train)]
        for file in files:
            if not file.exists():
                raise UserError(f"data.root={root}: the sample's {file.name} is not there; leave data.root out")
        images, targets = (parse_idx(read_bytes(file), file) for file in files)
        super().__init__(images.unsqueeze(1), targets.long(), CLASSES)


class FashionMNIST(ImageDataset):
    """Fashion-MNIST's 60,000 training or 10,000 test images, (N, 1, 28, 28) uint8.

    The files are looked for in the data root; with download=True then in the system's package, then at torchvision's
    mirror, and laid into <root>/FashionMNIST/raw, where torchvision looks for them as well.

    Args:
        root: The data root.
        train: The training images, or else the test images.
        download: Fetch what is not in the data root.

    Raises:
        UserError: if the root is missing or not writable, a file is damaged, or the data cannot be had.
    """

    def __init__(self, root: str, train: bool = True, download: bool = True) -> None:
        folder = checked_root(root) / "FashionMNIST" / "raw"
        files = [folder / name for name in _names(train)]
        for file in files:
            if not file.exists():
                if not download:
                    raise UserError(f"{file} is not there, and fetching it is switched off by data.download")
                _fetch(file)
        images, targets = (parse_idx(_intact(read_bytes(file), file), file) for file in files)
        super().__init__(images.unsqueeze(1), targets.long(), CLASSES)


def _fetch(file: Path) -> None:
    """Put one of the four idx files where it belongs, whole or not at all."""
    system_file = SYSTEM_DIR / f"{file.name}.gz"
    in_system = system_file.exists()
    content = _intact(read_bytes(system_file), system_file) if in_system else _from_mirror(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as whole:
            whole.write(content)
    except OSError as error:
        raise UserError(
            f"data.root: {file} cannot be written ({error}); give another folder by data.root=DIR"
        ) from error
    log.info("data: %s laid down, from %s", file, system_file.parent if in_system else "the mirror")


def _from_mirror(file: Path) -> bytes:
    """The content of an idx file, from torchvision's mirror, by torchvision's checksums and ours."""
    from torchvision.datasets import FashionMNIST as Torchvision
    from torchvision.datasets.utils import download_url

    errors: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fashion-mnist-") as folder, _socket_timeout(MIRROR_TIMEOUT):
        for mirror in Torchvision.mirrors:
            try:
                download_url(f"{mirror}{file.name}.gz", folder, md5=dict(Torchvision.resources)[f"{file.name}.gz"])
                archive = Path(folder) / f"{file.name}.gz"
                return _intact(read_bytes(archive), archive)
            except (OSError, RuntimeError) as error:
                errors.append(str(error))
    raise UserError(
        f"Fashion-MNIST is neither in the data root nor in {SYSTEM_DIR}, and its mirror cannot be reached "
        f"({errors[-1]}); install your system's package dataset-fashion-mnist, or put the file at {file}, "
        "or use data=sample"
    )


def _names(train: bool) -> list[str]:
    return [name for name in CHECKSUMS if name.startswith("train" if train else "t10k")]


def _intact(content: bytes, source: Path) -> bytes:
    name = source.name.removesuffix(".gz")
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[name]:
        raise UserError(f"{source} is not the {name} of Fashion-MNIST but truncated or altered; {REMEDY}")
    return content


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def main() -> None:
    """Put all four files into data/: python -m pytorch_intro.fashion_mnist"""
    try:
        for train in (True, False):
            FashionMNIST(str(PROJECT / "data"), train)
    except UserError as error:
        leave(str(error))


if __name__ == "__main__":
    main()
