"""From files to batches: datasets, splits, the sampler, loaders and the batch path of the DataModule."""

import functools
import gc
import gzip
import hashlib
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from conftest import sample_datamodule
from lightning import LightningModule, Trainer
from lightning.fabric.utilities.data import _set_sampler_epoch
from torch import Tensor, nn
from torchvision.datasets import FashionMNIST as Torchvision

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.dataset import Batch, InMemoryImageDataset
from pytorch_intro.data.ingest import fashion_mnist
from pytorch_intro.data.ingest.fashion_mnist import FashionMNIST, FashionMNISTSample
from pytorch_intro.data.sampler import ResumableBatchSampler
from pytorch_intro.training.trainer import silence_lightning

SAMPLE_DIR = PROJECT / "src" / "pytorch_intro" / "data" / "sample"


def test_dataset_is_indexed_like_a_list() -> None:
    """dataset[i] is one image (C, H, W) uint8 and its label; an IndexError past the end stops a loop."""
    dataset = FashionMNISTSample(str(SAMPLE_DIR), train=True)
    image, label = dataset[3]
    assert len(dataset) == 1600
    assert image.shape == (1, 28, 28)
    assert image.dtype == torch.uint8
    assert dataset.classes[label] in Torchvision.classes
    assert len(list(iter(dataset))) == 1600


def test_a_batch_equals_its_samples_loaded_one_by_one() -> None:
    dataset = FashionMNISTSample(str(SAMPLE_DIR), train=True)
    images, targets = dataset.__getitems__([5, 0, 7])
    assert torch.equal(images, torch.stack([dataset[i][0] for i in (5, 0, 7)]))
    assert targets.tolist() == [dataset[i][1] for i in (5, 0, 7)]


def test_the_sample_dataset_is_balanced_and_small() -> None:
    """160 training and 40 test images per class, in less than 1 MB."""
    for train, count in ((True, 160), (False, 40)):
        targets = FashionMNISTSample(str(SAMPLE_DIR), train).targets
        assert torch.bincount(targets).tolist() == [count] * 10
    assert sum(file.stat().st_size for file in SAMPLE_DIR.iterdir()) < 1_000_000


def test_batches_have_their_shapes_dtypes_and_ranges() -> None:
    datamodule = sample_datamodule()
    images, targets = next(iter(datamodule.train_dataloader()))
    assert images.shape == (64, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert images.max() > 200
    assert targets.shape == (64,)
    assert targets.dtype == torch.int64
    assert set(targets.tolist()) <= set(range(10))


def test_images_are_normalized_on_the_device() -> None:
    """float32 with mean 0 and standard deviation 1; labels are unchanged."""
    datamodule = sample_datamodule()
    batch = datamodule.train_set.__getitems__(list(range(1280)))
    images, targets = datamodule.on_after_batch_transfer(batch, 0)
    assert images.dtype == torch.float32
    assert abs(images.mean()) < 0.05
    assert abs(images.std() - 1) < 0.05
    assert torch.equal(targets, batch[1])


class Recorder(LightningModule):
    """Keeps its input images, (stage, epoch) to (N, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.images: dict[tuple[str, int], list[Tensor]] = {}

    def keep(self, stage: str, batch: Batch) -> None:
        self.images.setdefault((stage, self.current_epoch), []).append(batch[0])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.keep("train", batch)
        return self.weight.sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.keep("val", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def record_images(datamodule: DataModule, epochs: int) -> dict[tuple[str, int], Tensor]:
    """Return the images of each stage and epoch, as the network gets them."""
    silence_lightning()
    module = Recorder()
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    quiet |= {"enable_checkpointing": False, "num_sanity_val_steps": 0}
    Trainer(accelerator="cpu", max_epochs=epochs, **quiet).fit(module, datamodule)
    return {key: torch.cat(batches) for key, batches in module.images.items()}


def test_only_training_batches_are_augmented() -> None:
    datamodule = sample_datamodule("data/augment=[flip]", "data.augment.flip.p=1.0", "data.shuffle=false")
    recorded = record_images(datamodule, epochs=1)
    for stage, subset in (("train", datamodule.train_set), ("val", datamodule.val_set)):
        images, _ = cast(Batch, cast(Any, subset).__getitems__(list(range(len(subset or [])))))
        images = datamodule.normalize(images)
        assert torch.equal(recorded[stage, 0], images.flip(-1) if stage == "train" else images)


def on_cpu(**values: Any) -> Any:
    """Return a stand-in for the Trainer, with what the DataModule reads."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    defaults = {"world_size": 1, "global_rank": 0, "overfit_batches": 0, "current_epoch": 0, "strategy": strategy}
    return SimpleNamespace(**defaults | values)


def test_order_depends_on_the_epoch_and_ranks_share_each_epoch() -> None:
    """An epoch has the same order whether training started with it or not."""
    datamodule = sample_datamodule()
    datamodule.trainer = on_cpu(world_size=2, global_rank=1)

    def indices(batches: Any) -> list[int]:
        assert isinstance(batches, ResumableBatchSampler)
        return torch.cat(list(batches)).tolist()

    loader = datamodule.train_dataloader()
    batches = loader.batch_sampler
    first, second = indices(batches), indices(batches)
    _set_sampler_epoch(loader, 0)  # as Lightning does
    assert indices(batches) == first != second
    datamodule.trainer = on_cpu(world_size=2, global_rank=0)
    assert sorted([*first, *indices(datamodule.train_dataloader().batch_sampler)]) == list(range(1280))


def test_training_and_validation_are_disjoint_and_cover_all_images() -> None:
    datamodule = sample_datamodule()
    assert datamodule.val_set
    train, val = set(datamodule.train_set.indices.tolist()), set(datamodule.val_set.indices.tolist())
    assert not train & val
    assert train | val == set(range(1600))
    assert len(val) == 320


def test_split_depends_on_split_seed_only() -> None:
    def validation(*overrides: str) -> list[int]:
        val_set = sample_datamodule(*overrides).val_set
        assert val_set
        return val_set.indices.tolist()

    first = validation()
    assert validation("seed=1") == first
    assert validation("data.split_seed=1") != first


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_epoch_has_every_image_once_in_a_new_order(num_workers: int) -> None:
    """With and without workers; validation keeps its order."""
    datamodule = sample_datamodule(f"data.num_workers={num_workers}", "data.batch_size=100")
    loader = datamodule.train_dataloader()
    first, second = (torch.cat([images for images, _ in loader]) for _ in range(2))
    expected = datamodule.train_set.__getitems__(list(range(1280)))[0]
    assert len(first) == 1280
    assert not torch.equal(first, second)
    assert torch.equal(sorted_rows(first), sorted_rows(expected))
    assert torch.equal(sorted_rows(second), sorted_rows(expected))
    val = datamodule.val_dataloader()
    assert torch.equal(*(torch.cat([images for images, _ in val]) for _ in range(2)))


def sorted_rows(images: Tensor) -> Tensor:
    return torch.unique(images.flatten(1), dim=0, return_counts=True)[0]


def test_shuffling_can_be_disabled() -> None:
    datamodule = sample_datamodule("data.shuffle=false")
    images, _ = next(iter(datamodule.train_dataloader()))
    assert torch.equal(images[0], datamodule.train_set[0][0])


def test_empty_split_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"data\.val_fraction"):
        sample_datamodule("data.val_fraction=0.0001")


# The official files are not available in tests: the sample's files replace them, with their own checksums.
@pytest.fixture
def system_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the sample's files, used instead of the system's package."""
    folder = tmp_path / "system"
    folder.mkdir()
    checksums = {}
    for name in fashion_mnist.CHECKSUMS:
        content = gzip.decompress((SAMPLE_DIR / f"{name}.gz").read_bytes())
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        checksums[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(fashion_mnist, "CHECKSUMS", checksums)
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIR", folder)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an empty data root."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def open_fashion_mnist(root: Path, train: bool = True, download: bool = True) -> FashionMNIST:
    """Open Fashion-MNIST like `data=fashion_mnist`."""
    return DataModule(FashionMNIST, str(root), download).source.open(train=train)


def test_system_files_are_copied_into_the_data_root_and_read_there(system_dir: Path, root: Path) -> None:
    first = open_fashion_mnist(root)
    for file in system_dir.iterdir():
        file.unlink()
    again = open_fashion_mnist(root)
    assert torch.equal(first.data, again.data)
    assert torch.equal(first.data.unsqueeze(1), FashionMNISTSample(str(SAMPLE_DIR)).images)
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == sorted(fashion_mnist.CHECKSUMS)


def test_fashion_mnist_becomes_one_tensor(system_dir: Path, root: Path) -> None:
    """Nothing is decoded or cached."""
    datamodule = DataModule(FashionMNIST, str(root))
    datamodule.setup("fit")
    images = datamodule.train_set.dataset
    assert isinstance(images, InMemoryImageDataset)
    sample = FashionMNISTSample(str(SAMPLE_DIR))
    assert torch.equal(images.images, sample.images)
    assert torch.equal(images.targets, sample.targets)
    assert images.classes == sample.classes


@pytest.fixture
def mirror(system_dir: Path) -> Iterator[str]:
    """Serve the system's files on loopback, and remove them from the system."""
    folder = system_dir.rename(system_dir.with_name("mirror"))
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # from urllib, after a 404
def test_mirror_is_used_last_and_verified(
    mirror: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With torchvision's download and checksums; the first mirror lacks the files."""
    resources = [(file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in (tmp_path / "mirror").iterdir()]
    monkeypatch.setattr(Torchvision, "mirrors", [f"{mirror}nothing/", mirror])
    monkeypatch.setattr(Torchvision, "resources", resources)
    images = FashionMNISTSample(str(SAMPLE_DIR), train=False).images
    assert torch.equal(open_fashion_mnist(root, train=False).data.unsqueeze(1), images)
    gc.collect()  # close urllib's socket of the 404 here, not in another test


def test_mirror_with_other_content_is_rejected(
    mirror: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = [(file.name, "0" * 32) for file in (tmp_path / "mirror").iterdir()]
    monkeypatch.setattr(Torchvision, "mirrors", [mirror])
    monkeypatch.setattr(Torchvision, "resources", resources)
    with pytest.raises(UserError, match="mirror"):
        open_fashion_mnist(root)
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_unavailable_data_is_a_user_error_with_remedies(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIR", tmp_path / "nothing")
    monkeypatch.setattr(Torchvision, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(UserError, match=r"dataset-fashion-mnist.*data=sample"):
        open_fashion_mnist(root)
    assert not list(root.rglob("*-ubyte*"))
    with pytest.raises(UserError, match=r"data\.download=true"):
        open_fashion_mnist(root, download=False)


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: c[:100] + b"?" + c[101:], lambda c: b"", lambda c: c + b"0"]
)
def test_truncated_or_altered_file_is_a_user_error(system_dir: Path, root: Path, damage: object) -> None:
    assert callable(damage)
    open_fashion_mnist(root)
    file = root / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.*truncated or altered; remove it"):
        open_fashion_mnist(root)


def test_damaged_system_archive_leaves_no_files(system_dir: Path, root: Path) -> None:
    archive = system_dir / "train-images-idx3-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz: cannot be read"):
        open_fashion_mnist(root)
    assert not [path for path in root.rglob("*") if path.is_file()]


def test_data_root_that_is_missing_or_a_file_is_a_user_error(system_dir: Path, tmp_path: Path) -> None:
    """Only the project's own data/ is created: another missing folder is probably a typo."""
    (tmp_path / "file").touch()
    for wrong in ("missing", "file"):
        with pytest.raises(UserError, match=rf"data\.root={tmp_path / wrong}"):
            open_fashion_mnist(tmp_path / wrong)
    assert not (tmp_path / "missing").exists()


def test_data_root_that_cannot_be_written_is_a_user_error(
    system_dir: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "FashionMNIST").write_text("a file is in the way")
    with pytest.raises(UserError, match=r"data\.root=.* cannot be written .*data\.root=DIR"):
        open_fashion_mnist(root)


@pytest.mark.parametrize(
    "content", [b"no archive", gzip.compress(b""), gzip.compress(bytes(17))], ids=["no archive", "empty", "zeros"]
)
def test_damaged_sample_is_a_user_error(root: Path, content: bytes) -> None:
    for file in SAMPLE_DIR.glob("*.gz"):
        shutil.copy(file, root)
    (root / "train-images-idx3-ubyte.gz").write_bytes(content)
    source = DataModule(FashionMNISTSample, str(root)).source
    source.open(train=False)
    with pytest.raises(
        UserError, match=r"train-images-idx3-ubyte\.gz: cannot be read|FashionMNISTSample cannot be opened"
    ):
        source.open(train=True)


def test_in_memory_dataset_accepts_any_tensor(images: Tensor) -> None:
    dataset = InMemoryImageDataset(images, torch.arange(8), [str(i) for i in range(8)])
    assert dataset[-1][1] == 7


def test_images_cached_on_a_device_are_indexed_there() -> None:
    """On the meta device, where reading a value on the host is an error: order, batches and augmentation."""
    datamodule = sample_datamodule("data/augment=[flip,crop,resized_crop,erasing,cutout]")
    on_meta = datamodule.train_set.to(torch.device("meta"))
    (first, *_) = ResumableBatchSampler(len(on_meta), 100, shuffle=True, training=True, device=torch.device("meta"))
    images, targets = on_meta.__getitems__(first)
    assert (images.device.type, targets.device.type, targets.dtype) == ("meta", "meta", torch.int64)
    augmented = datamodule.normalize(datamodule.augment(images))
    assert (augmented.device.type, augmented.shape, augmented.dtype) == ("meta", (100, 1, 28, 28), torch.float32)


def test_caching_on_the_device_does_not_change_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host stands in for the device."""
    batches = []
    for is_cached in (True, False):
        datamodule = sample_datamodule()
        monkeypatch.setattr(
            datamodule, "device_for_cache", lambda subset, on=is_cached: torch.device("cpu") if on else None
        )
        batches.append([torch.cat(parts) for parts in zip(*datamodule.train_dataloader(), strict=True)])
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))


def test_on_device_without_enough_memory_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytorch_intro.data.datamodule.free_device_memory", lambda device: 10**5)
    datamodule = sample_datamodule("data.on_device=true")
    datamodule.trainer = on_cpu(strategy=SimpleNamespace(root_device=torch.device("cuda", 0)))
    with pytest.raises(UserError, match=r"data\.on_device=true: 1,280 images exceed the memory of"):
        datamodule.train_dataloader()


def test_fewer_images_than_processes_are_a_user_error() -> None:
    datamodule = sample_datamodule("data.val_fraction=0.005")
    datamodule.trainer = on_cpu(world_size=16)
    with pytest.raises(UserError, match="16 processes cannot share 8 images"):
        datamodule.val_dataloader()


def test_batch_size_must_be_a_multiple_of_the_world_size() -> None:
    datamodule = sample_datamodule("data.batch_size=63")
    datamodule.trainer = on_cpu(world_size=2)
    with pytest.raises(UserError, match=r"data\.batch_size=63: 2 processes .* multiple of 2"):
        datamodule.train_dataloader()


@pytest.mark.parametrize(("device", "workers", "is_pinned"), [("cuda", 2, True), ("cuda", 0, False), ("cpu", 2, False)])
def test_batches_of_workers_for_a_gpu_are_in_pinned_memory(device: str, workers: int, is_pinned: bool) -> None:
    datamodule = sample_datamodule(f"data.num_workers={workers}", "data.on_device=false")
    datamodule.trainer = on_cpu(strategy=SimpleNamespace(root_device=torch.device(device)))
    assert datamodule.train_dataloader().pin_memory == is_pinned


@pytest.mark.parametrize(("free_memory", "is_cached"), [(10**9, True), (10**6, False)])
def test_images_are_cached_on_a_gpu_with_enough_memory(
    monkeypatch: pytest.MonkeyPatch, free_memory: int, is_cached: bool
) -> None:
    monkeypatch.setattr("pytorch_intro.data.datamodule.free_device_memory", lambda device: free_memory)
    for options, possible in (([], True), (["data.num_workers=2"], False), (["data.on_device=false"], False)):
        datamodule = sample_datamodule(*options)
        datamodule.trainer = on_cpu(strategy=SimpleNamespace(root_device=torch.device("cuda", 0)))
        expected = torch.device("cuda", 0) if is_cached and possible else None
        assert datamodule.device_for_cache(datamodule.train_set) == expected
        datamodule.trainer = on_cpu()
        assert datamodule.device_for_cache(datamodule.train_set) is None
