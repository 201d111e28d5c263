"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747) from the data root, the system's package, or the mirror."""

import gzip
import hashlib
import logging
import socket
import zlib
from pathlib import Path

import torch
from torch import Tensor
from torchvision import datasets

from pytorch_intro.common.errors import UserError, exit_with_error
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.dataset import InMemoryImageDataset
from pytorch_intro.data.ingest.data_root import checked_root
from pytorch_intro.data.ingest.open_dataset import open_dataset

log = logging.getLogger(__name__)

# SHA-256 of the uncompressed files: archives of the same content differ between compressors.
CHECKSUMS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

SYSTEM_DIR = Path("/usr/share/datasets/fashion-mnist")  # of Debian's and Ubuntu's package dataset-fashion-mnist

MIRROR_TIMEOUT = 20  # seconds without data; torchvision would wait forever


class FashionMNIST(datasets.FashionMNIST):
    """torchvision's Fashion-MNIST, with its content verified, and downloaded only if the system has no copy."""

    def download(self) -> None:
        """Copy the files from the system's package if it is installed, else download them."""
        if self._check_exists():
            return
        if SYSTEM_DIR.is_dir():
            raw = Path(self.raw_folder)
            raw.mkdir(parents=True, exist_ok=True)
            for name in CHECKSUMS:
                (raw / name).write_bytes(read_verified(SYSTEM_DIR / f"{name}.gz"))
            log.info("data: copied Fashion-MNIST from %s", SYSTEM_DIR)
            return
        default_timeout = socket.getdefaulttimeout()
        socket.setdefaulttimeout(MIRROR_TIMEOUT)
        try:
            super().download()
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"data.root: Fashion-MNIST is neither in this folder nor in {SYSTEM_DIR}, and the mirror failed "
                f"({' '.join(str(error).split())}); install your system's package dataset-fashion-mnist, put the files "
                "into FashionMNIST/raw in this folder, or use data=sample"
            ) from error
        finally:
            socket.setdefaulttimeout(default_timeout)
        log.info("data: downloaded Fashion-MNIST from the mirror")

    def _check_legacy_exist(self) -> bool:
        return False  # files of old versions of torchvision, which cannot be verified

    def _load_data(self) -> tuple[Tensor, Tensor]:
        for name in split_files(self.train):
            read_verified(Path(self.raw_folder, name))
        return super()._load_data()


class FashionMNISTSample(InMemoryImageDataset):
    """160 training and 40 test images per class of Fashion-MNIST, part of this project.

    root is the folder of its four gzipped files, in the idx format of MNIST.
    """

    def __init__(self, root: str, train: bool = True) -> None:
        files = [Path(root) / f"{name}.gz" for name in split_files(train)]
        for file in files:
            if not file.exists():
                raise UserError(f"data.root={root}: the sample's {file.name} is missing; leave data.root out")
        contents = [torch.frombuffer(bytearray(read_gzip(file)), dtype=torch.uint8) for file in files]
        images, targets = contents[0][16:].view(-1, 1, 28, 28), contents[1][8:].long()  # both follow a header
        super().__init__(images, targets, FashionMNIST.classes)


def split_files(train: bool) -> list[str]:
    """Return the names of a split's image and label file."""
    return [name for name in CHECKSUMS if name.startswith("train" if train else "t10k")]


def read_gzip(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); restore or remove it") from error


def read_verified(path: Path) -> bytes:
    """Return the uncompressed content; raise a UserError unless it is that of the official file of this name."""
    content = read_gzip(path) if path.suffix == ".gz" else path.read_bytes()
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[path.stem]:
        raise UserError(f"{path}: wrong checksum, truncated or altered; remove it, then rerun")
    return content


def prepare(root: Path) -> None:
    """Put the files into the data root, whole or not at all; raise a UserError if they cannot be obtained."""
    options = {"root": str(checked_root(str(root))), "download": True}
    for train in (True, False):
        open_dataset(FashionMNIST, "FashionMNIST", options | {"train": train})


if __name__ == "__main__":  # of `make`
    try:
        prepare(PROJECT / "data")
    except UserError as error:
        exit_with_error(str(error))
