"""torchvision's datasets, from small files in their formats: pixels, labels, class names."""

import gc
import gzip
import hashlib
import pickle
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command, compose, write_images
from torchvision import datasets

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.data.datamodule import DataModule

RANDOM = np.random.default_rng(0)
COUNTS = {"train": 40, "test": 20}


def pixels(count: int, *shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, *shape), np.uint8)


def labels(count: int, num_classes: int = 10) -> np.ndarray:
    return np.arange(count, dtype=np.uint8) % num_classes


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write(root: Path, name: str, content: bytes) -> str:
    """Write a file and return its MD5."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)
    return hashlib.md5(content).hexdigest()


def write_mnist(root: Path, name: str) -> None:
    for part, count in {"train": 40, "t10k": 20}.items():
        write(root, f"{name}/raw/{part}-images-idx3-ubyte", idx(pixels(count, 28, 28)))
        write(root, f"{name}/raw/{part}-labels-idx1-ubyte", idx(labels(count)))


def write_qmnist(root: Path) -> None:
    for part, count in COUNTS.items():
        columns = np.zeros((count, 8), ">i4")
        columns[:, 0] = labels(count)
        write(root, f"QMNIST/raw/qmnist-{part}-images-idx3-ubyte", idx(pixels(count, 28, 28)))
        write(root, f"QMNIST/raw/qmnist-{part}-labels-idx2-int", idx(columns, 12))


def write_emnist(root: Path) -> None:
    for part, count in COUNTS.items():
        write(root, f"EMNIST/raw/emnist-balanced-{part}-images-idx3-ubyte", idx(pixels(count, 28, 28)))
        write(root, f"EMNIST/raw/emnist-balanced-{part}-labels-idx1-ubyte", idx(labels(count)))


def write_cifar(root: Path, kind: type[datasets.CIFAR10], patch: pytest.MonkeyPatch) -> None:
    label_key = "labels" if kind is datasets.CIFAR10 else "fine_labels"
    for attribute, count in {"train_list": 8, "test_list": 20}.items():
        files = []
        for name, _ in getattr(kind, attribute):
            count = 40 if kind is datasets.CIFAR100 and attribute == "train_list" else count
            content = pickle.dumps({"data": pixels(count, 3072), label_key: labels(count).tolist()})
            files.append([name, write(root, f"{kind.base_folder}/{name}", content)])
        patch.setattr(kind, attribute, files)
    names = {kind.meta["key"]: [f"class {number}" for number in range(10)]}
    digest = write(root, f"{kind.base_folder}/{kind.meta['filename']}", pickle.dumps(names))
    patch.setattr(kind, "meta", {**kind.meta, "md5": digest})


def write_svhn(root: Path, patch: pytest.MonkeyPatch) -> None:
    """With a mock of scipy.io: SciPy is not a requirement of this project, since it costs every start a second."""
    files = {}
    for part, count in COUNTS.items():
        ten_is_zero = labels(count).astype(int)
        ten_is_zero[ten_is_zero == 0] = 10
        content = pickle.dumps({"X": pixels(count, 32, 32, 3).transpose(1, 2, 3, 0), "y": ten_is_zero[:, None]})
        files[part] = ["", f"{part}_32x32.mat", write(root, f"{part}_32x32.mat", content)]
    patch.setattr(datasets.SVHN, "split_list", files)
    reader = ModuleType("scipy.io")
    reader.__dict__["loadmat"] = lambda file: pickle.loads(Path(file).read_bytes())
    package = ModuleType("scipy")
    package.__dict__["io"] = reader
    patch.setitem(sys.modules, "scipy", package)
    patch.setitem(sys.modules, "scipy.io", reader)


def test_a_missing_package_of_a_dataset_is_a_one_line_error(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_svhn(tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "scipy", None)
    answer = command("data=svhn", f"data.root={tmp_path}", "data.download=false", "name=s")
    assert answer.code == 2
    assert answer.err.endswith("SVHN requires scipy; run pip install scipy\n")


def write_stl10(root: Path, patch: pytest.MonkeyPatch) -> None:
    def listed(part: str, count: int) -> list[list[str]]:
        images = write(root, f"stl10_binary/{part}_X.bin", pixels(count, 3, 96, 96).tobytes())
        if part == "unlabeled":
            return [["unlabeled_X.bin", images]]
        answers = write(root, f"stl10_binary/{part}_y.bin", (labels(count) + 1).tobytes())
        return [[f"{part}_X.bin", images], [f"{part}_y.bin", answers]]

    write(root, "stl10_binary/class_names.txt", "\n".join(f"class {number}" for number in range(10)).encode())
    patch.setattr(datasets.STL10, "train_list", [*listed("train", 40), *listed("unlabeled", 1)])
    patch.setattr(datasets.STL10, "test_list", listed("test", 20))


Write = Callable[[Path, pytest.MonkeyPatch], None]
SETS: dict[str, tuple[Write, type, tuple[int, ...]]] = {
    "mnist": (lambda root, _: write_mnist(root, "MNIST"), datasets.MNIST, (1, 28, 28)),
    "kmnist": (lambda root, _: write_mnist(root, "KMNIST"), datasets.KMNIST, (1, 28, 28)),
    "qmnist": (lambda root, _: write_qmnist(root), datasets.QMNIST, (1, 28, 28)),
    "emnist": (lambda root, _: write_emnist(root), datasets.EMNIST, (1, 28, 28)),
    "cifar10": (lambda root, patch: write_cifar(root, datasets.CIFAR10, patch), datasets.CIFAR10, (3, 32, 32)),
    "cifar100": (lambda root, patch: write_cifar(root, datasets.CIFAR100, patch), datasets.CIFAR100, (3, 32, 32)),
    "svhn": (lambda root, patch: write_svhn(root, patch), datasets.SVHN, (3, 32, 32)),
    "stl10": (lambda root, patch: write_stl10(root, patch), datasets.STL10, (3, 96, 96)),
}


def opened(root: Path, *overrides: str) -> DataModule:
    datamodule: DataModule = instantiate(compose(f"data.root={root}", "data.download=false", *overrides).data, "data")
    datamodule.setup("fit")
    datamodule.setup("test")
    return datamodule


@pytest.mark.parametrize("name", SETS)
def test_each_dataset_gives_the_same_samples_as_torchvision(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images and labels of both splits as tensors; the official test split is used for testing."""
    write_set, kind, shape = SETS[name]
    write_set(tmp_path, monkeypatch)
    datamodule = opened(tmp_path, f"data={name}")
    assert datamodule.image_shape == shape
    assert (len(datamodule.train_set), len(datamodule.val_set or []), len(datamodule.test_set or [])) == (36, 4, 20)
    by_split = name in ("svhn", "stl10")
    options: dict[str, Any] = {"split": "balanced"} if name == "emnist" else {}
    for subset, train in ((datamodule.train_set, True), (datamodule.test_set, False)):
        theirs = kind(tmp_path, **options | ({"split": "train" if train else "test"} if by_split else {"train": train}))
        assert subset is not None
        images, targets = subset.dataset.__getitems__(list(range(len(theirs))))
        assert (images.dtype, targets.dtype) == (torch.uint8, torch.int64)
        for i, (image, label) in enumerate(theirs):
            assert np.array_equal(images[i].permute(1, 2, 0).squeeze(-1), np.asarray(image))
            assert targets[i] == label
    has_names = name not in ("svhn",)
    assert datamodule.classes == (list(theirs.classes) if has_names else [str(digit) for digit in range(10)])


def test_any_torchvision_dataset_class_can_be_used_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset that decodes each image at every access: decoded once, into a cache that notices a changed file."""
    monkeypatch.setattr("pytorch_intro.data.ingest.reader.PROJECT", tmp_path)
    root = tmp_path / "fruit"
    write_images(root, *(f"{name}/{i}.jpg" for name in ("apple", "pear") for i in range(10)), size=(20, 16), mode="RGB")
    arguments = ["data=custom", "data.dataset._target_=torchvision.datasets.ImageFolder"]
    for _ in range(2):
        datamodule = opened(root, *arguments)
        assert datamodule.image_shape == (3, 16, 20)
        assert datamodule.classes == ["apple", "pear"]
        parts = (datamodule.train_set, datamodule.val_set, datamodule.test_set)
        assert [len(part or []) for part in parts] == [16, 2, 2]
        assert len([path for path in (tmp_path / "data" / ".cache").iterdir() if path.is_dir()]) == 1
    write_images(root, "pear/more.jpg", size=(20, 16), mode="RGB")
    assert len(opened(root, *arguments).train_set) == 17


def test_a_random_transform_is_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random samples are loaded every time and not cached."""
    monkeypatch.setattr("pytorch_intro.data.ingest.reader.PROJECT", tmp_path)
    root = tmp_path / "fruit"
    write_images(root, *(f"{name}/{i}.png" for name in ("apple", "pear") for i in range(10)), size=(20, 16), mode="RGB")
    transform = "{_target_:torchvision.transforms.v2.RandomPhotometricDistort,p:1}"
    arguments = ["data=custom", "data.dataset._target_=torchvision.datasets.ImageFolder"]
    datamodule = opened(root, *arguments, f"+data.dataset.transform={transform}")
    images = [datamodule.train_set[3][0] for _ in range(2)]
    assert not torch.equal(*images)
    assert not (tmp_path / "data").exists()


class Shifted(datasets.VisionDataset):
    """Its repr does not contain its options."""

    def __init__(self, root: str, split: str, shift: int = 0) -> None:
        super().__init__(root)
        if split not in ("train", "test"):
            raise ValueError(f"Unknown value '{split}' for argument split. Valid values are {{'train', 'test'}}.")
        self.level = shift + (100 if split == "train" else 0)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((1, 8, 8), self.level + index, dtype=torch.uint8), index % 2


def test_every_option_and_split_of_a_dataset_has_its_own_cache(tmp_path: Path) -> None:
    for shift in (0, 50):
        arguments = ["data=custom", "data.dataset._target_=test_torchvision_sets.Shifted"]
        datamodule = opened(tmp_path, *arguments, f"+data.dataset.shift={shift}")
        assert datamodule.test_set
        assert int(datamodule.train_set.dataset[3][0][0, 0, 0]) == 103 + shift
        assert int(datamodule.test_set.dataset[3][0][0, 0, 0]) == 3 + shift


def test_torchvision_dataset_with_named_splits_provides_each(tmp_path: Path) -> None:
    """DTD has train, val and test, and lists its files in text files."""
    for number, split in enumerate(("train", "val", "test")):
        paths = [f"{name}/{name}_{number}{i}.jpg" for name in ("braided", "dotted") for i in range(3)]
        write_images(tmp_path / "dtd" / "dtd" / "images", *paths, size=(30, 30), mode="RGB")
        write(tmp_path, f"dtd/dtd/labels/{split}1.txt", "\n".join(paths).encode())
    datamodule = opened(tmp_path, "data=custom", "data.dataset._target_=torchvision.datasets.DTD")
    assert [len(part or []) for part in (datamodule.train_set, datamodule.val_set, datamodule.test_set)] == [6, 6, 6]
    assert datamodule.classes == ["braided", "dotted"]


def test_options_of_the_class_are_passed_to_it() -> None:
    """transform is applied when the images are decoded; target_transform to the labels."""
    config = compose(
        "data=custom",
        "data.dataset._target_=torchvision.datasets.FakeData",
        "+data.dataset.size=50",
        "+data.dataset.image_size=[3,40,40]",
        "+data.dataset.num_classes=4",
        "+data.dataset.transform={_target_:torchvision.transforms.v2.Resize,size:[10,12]}",
        "+data.dataset.target_transform={_target_:operator.itemgetter,_args_:[0]}",
    )
    config.data.dataset.target_transform = {"_target_": "operator.mul", "_partial_": True, "_args_": [2]}
    datamodule: DataModule = instantiate(config.data, "data")
    datamodule.setup("fit")
    assert datamodule.image_shape == (3, 10, 12)
    assert set(datamodule.train_set.dataset.targets.tolist()) <= {0, 2, 4, 6}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A real server on loopback: its folder and its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path / "server"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        Thread(target=http.serve_forever).start()
        yield folder, f"http://127.0.0.1:{http.server_port}/"
        http.shutdown()


def serve_mnist(folder: Path, address: str, patch: pytest.MonkeyPatch) -> None:
    write_mnist(folder, "MNIST")
    resources = []
    for file in sorted((folder / "MNIST" / "raw").iterdir()):
        resources.append((f"{file.name}.gz", write(folder, f"{file.name}.gz", gzip.compress(file.read_bytes()))))
    patch.setattr(datasets.MNIST, "mirrors", [address])
    patch.setattr(datasets.MNIST, "resources", resources)


def fetched(root: Path, name: str) -> DataModule:
    root.mkdir(exist_ok=True)
    datamodule: DataModule = instantiate(compose(f"data={name}", f"data.root={root}").data, "data")
    datamodule.setup("fit")
    return datamodule


def test_missing_dataset_is_downloaded_once(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(*server, monkeypatch)
    first = fetched(tmp_path / "data", "mnist")
    monkeypatch.setattr(datasets.MNIST, "mirrors", [])
    again = fetched(tmp_path / "data", "mnist")
    assert torch.equal(*(part.train_set.dataset.images for part in (first, again)))  # type: ignore[attr-defined]
    assert not list((tmp_path / "data").glob(".download-*"))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def alter(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of urllib, for a 404
@pytest.mark.parametrize("damage", [truncate, alter, Path.unlink])
def test_a_download_with_a_wrong_checksum_leaves_no_files(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], Any]
) -> None:
    """The error has a remedy, and the next download succeeds."""
    folder, _ = server
    serve_mnist(*server, monkeypatch)
    file = folder / "train-labels-idx1-ubyte.gz"
    whole = file.read_bytes()
    damage(file)
    with pytest.raises(UserError, match=r"data\.root=.* MNIST is missing and cannot be downloaded .*try again"):
        fetched(tmp_path / "data", "mnist")
    assert not list((tmp_path / "data").iterdir())
    file.write_bytes(whole)
    assert len(fetched(tmp_path / "data", "mnist").train_set) == 36
    gc.collect()  # urllib's socket of the 404, here rather than in another test


def test_an_interrupted_download_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sends the full content length and closes the connection after half of it."""

    class HangsUp(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"x" * 500)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(datasets.KMNIST, "resources", [("train-images-idx3-ubyte.gz", "0" * 32)])
    with ThreadingHTTPServer(("127.0.0.1", 0), HangsUp) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        monkeypatch.setattr(datasets.KMNIST, "mirrors", [f"http://127.0.0.1:{http.server_port}/"])
        with pytest.raises(UserError, match=r"data\.root=.* KMNIST is missing and cannot be downloaded .*try again"):
            fetched(tmp_path / "data", "kmnist")
        http.shutdown()
    assert not list((tmp_path / "data").iterdir())


def test_truncated_file_is_downloaded_again(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_mnist(*server, monkeypatch)
    fetched(tmp_path / "data", "mnist")
    truncate(tmp_path / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte")
    assert len(fetched(tmp_path / "data", "mnist").train_set) == 36


def test_missing_files_with_download_false_name_the_setting(tmp_path: Path) -> None:
    for name in ("mnist", "cifar10", "svhn"):
        with pytest.raises(UserError, match=r"data\.download=true"):
            opened(tmp_path, f"data={name}")


@pytest.mark.parametrize("choice", ["fashion_mnist", "mnist", "cifar10"])
def test_no_dataset_is_downloaded_into_a_folder_of_other_files(command: Command, tmp_path: Path, choice: str) -> None:
    """As in data.root=DIR without data=folder."""
    write_images(tmp_path / "photos", "cup/1.png", "key/1.png")
    for more in ([], ["data.download=false"]):
        answer = command(f"data={choice}", f"data.root={tmp_path / 'photos'}", *more)
        assert answer.code == 2
        assert answer.err.count("\n") == 1
        assert "photos: contains cup, key, so" in answer.err
        assert "add data=folder" in answer.err
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["cup", "key"]


def test_datasets_are_downloaded_next_to_other_datasets(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("cifar-10-batches-py", "FashionMNIST", "flowers-102", "oxford-iiit-pet", "stl10_binary", "train_32x32.mat")
    for name in (*names, "lfw-py", "SUN397", "VOCdevkit", "eurosat", ".cache"):
        (tmp_path / "data" / name).mkdir(parents=True)
    serve_mnist(*server, monkeypatch)
    assert len(fetched(tmp_path / "data", "mnist").train_set) == 36
