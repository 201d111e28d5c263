"""Epochs that are sampled by class, or are shorter or longer than the data set, and what they are good for."""

import logging
from pathlib import Path

import pytest
import torch
from conftest import compose, sample_datamodule, write_images
from PIL import Image
from torch import Tensor

from pytorch_intro.common.errors import UserError
from pytorch_intro.config.instantiate import instantiate
from pytorch_intro.data.class_sampler import ClassSampler
from pytorch_intro.data.datamodule import DataModule
from pytorch_intro.data.dataset import InMemoryImageDataset
from pytorch_intro.data.ingest.fashion_mnist import FashionMNIST, FashionMNISTSample
from pytorch_intro.data.sampler import ResumableBatchSampler
from pytorch_intro.training.setup import build_experiment

ON_CPU = {"accelerator": "cpu", "precision": "32-true", "threads": 1}
TARGETS = torch.tensor([0] * 95 + [1] * 5 + [2] * 20)[torch.randperm(120, generator=torch.Generator().manual_seed(7))]


def rows_of(target: int) -> Tensor:
    return TARGETS.eq(target).nonzero().flatten()


def sampled(weights: list[float], samples: int, epoch: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(epoch)
    return ClassSampler(TARGETS, torch.tensor(weights)).sample(samples, generator)


@pytest.mark.parametrize("weights", [[1, 1, 1], [6, 1, 3], [1, 0, 2], [1e-9, 1, 1]])
@pytest.mark.parametrize("samples", [1, 7, 120, 1000])
def test_an_epoch_has_the_share_of_each_class_and_of_each_image_as_exactly_as_numbers_allow(
    weights: list[float], samples: int
) -> None:
    for epoch in range(5):
        rows = sampled(weights, samples, epoch)
        assert len(rows) == samples
        for target, count in enumerate(TARGETS[rows].bincount(minlength=3).tolist()):
            assert abs(count - samples * weights[target] / sum(weights)) < 1
            if count:
                per_image = rows[TARGETS[rows] == target].bincount(minlength=120)[rows_of(target)]
                assert per_image.max() - per_image.min() <= 1


def test_shares_are_right_on_average_for_fewer_samples_than_classes() -> None:
    targets = torch.cat([TARGETS[rows] for rows in (sampled([1, 1, 2], 1, epoch) for epoch in range(2000))])
    assert (targets.bincount() / 2000).tolist() == pytest.approx([0.25, 0.25, 0.5], abs=0.05)


def test_samples_of_a_class_are_in_random_places_and_differ_between_epochs() -> None:
    one, other = (sampled([1, 1, 1], 120, epoch) for epoch in range(2))
    assert not torch.equal(one, other)
    assert not torch.equal(TARGETS[one], TARGETS[one].sort().values)
    assert one.sort().values.tolist() != other.sort().values.tolist()  # other images of the class with 95


@pytest.mark.parametrize("class_sampler", [None, ClassSampler(TARGETS, torch.ones(3))], ids=["passes", "classes"])
@pytest.mark.parametrize("samples", [54, 120, 300])
def test_an_epoch_depends_on_seed_and_epoch_alone_and_ranks_share_it(
    class_sampler: ClassSampler | None, samples: int
) -> None:
    def batches(seed: int = 0, ranks: int = 1, rank: int = 0) -> ResumableBatchSampler:
        return ResumableBatchSampler(120, 12, True, seed, ranks, rank, True, None, samples, class_sampler)

    whole = batches()
    first, second = list(whole), list(whole)
    assert len(first) == len(whole) == -(-samples // 12)
    assert sum(len(batch) for batch in first) == samples
    assert not torch.equal(torch.cat(first), torch.cat(second))
    assert not torch.equal(torch.cat(first), torch.cat(list(batches(seed=1))))
    resumed = batches()
    resumed.epoch, resumed.start = 1, 3
    assert [batch.tolist() for batch in resumed] == [batch.tolist() for batch in second[3:]]
    ranks = [list(batches(ranks=2, rank=rank)) for rank in range(2)]
    for batch, *shares in zip(first, *ranks, strict=True):
        assert torch.stack(shares, dim=1).flatten().tolist() == batch.tolist()


@pytest.mark.parametrize(("samples", "epochs"), [(40, 6), (300, 2)])
def test_short_and_long_epochs_train_on_all_images_equally_often(samples: int, epochs: int) -> None:
    batches = ResumableBatchSampler(120, 20, True, training=True, samples=samples)
    rows = torch.cat([torch.cat(list(batches)) for _ in range(epochs)])
    assert rows.bincount(minlength=120).tolist() == [samples * epochs // 120] * 120


def test_an_epoch_of_all_images_is_the_permutation_of_its_seed() -> None:
    batches = ResumableBatchSampler(120, 20, True, seed=3, training=True)
    for epoch in range(2):
        expected = torch.randperm(120, generator=torch.Generator().manual_seed((3 << 16) + epoch))
        assert torch.equal(torch.cat(list(batches)), expected)


def test_short_epochs_without_shuffling_continue_where_the_last_one_ended() -> None:
    batches = ResumableBatchSampler(10, 4, training=True, samples=4)
    assert [torch.cat(list(batches)).tolist() for _ in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1]]


class FewShirts(InMemoryImageDataset):
    """144 T-shirts and 8 shirts of the sample for training, 40 test images of each."""

    def __init__(self, root: str, train: bool = True) -> None:
        sample = FashionMNISTSample(root, train)
        rows = [(sample.targets == sample.classes.index(name)).nonzero().flatten() for name in ("T-shirt/top", "Shirt")]
        rows[1] = rows[1][:8] if train else rows[1]
        images = sample.images[torch.cat(rows)]
        targets = torch.arange(2).repeat_interleave(torch.tensor([len(some) for some in rows]))
        super().__init__(images, targets, ["T-shirt/top", "Shirt"])


FEW = [
    "data=sample", "data.dataset._target_=test_sampling.FewShirts", "data.batch_size=32", "data.val_fraction=0",
    "trainer.max_epochs=6", "model.width=8", "model.features=null", "optimizer.lr=0.07", "optimizer.ns_steps=5",
    "callbacks=none", "logger=none", "trainer=cpu",
]  # fmt: skip


def balanced_accuracy(*arguments: str) -> float:
    """Return the mean recall of T-shirts and shirts, over two seeds."""
    recalls = []
    for seed in range(2):
        datamodule, classifier, trainer = build_experiment(compose(*FEW, *arguments, f"seed={seed}"), ON_CPU)
        trainer.fit(classifier, datamodule)
        datamodule.setup("test")
        assert datamodule.test_set
        images, targets = datamodule.test_set.__getitems__(torch.arange(80))
        with torch.inference_mode():
            predicted = classifier.eval()(datamodule.preprocess(images, augment=False)).argmax(dim=1)
        recalls += [(predicted == targets)[targets == target].float().mean().item() for target in (0, 1)]
    return sum(recalls) / len(recalls)


@pytest.fixture(scope="module")
def plain() -> float:
    return balanced_accuracy()


@pytest.mark.parametrize("setting", ["loss.class_weights=balanced", "data.sampler=balanced"])
def test_balanced_training_beats_plain_training_on_five_percent_positives(plain: float, setting: str) -> None:
    """Plain training finds almost none of the shirts."""
    assert plain < 0.55
    assert balanced_accuracy(setting) > plain + 0.1


def test_the_sampler_states_how_often_images_are_sampled(caplog: pytest.LogCaptureFixture) -> None:
    config = compose(*FEW, "data.sampler=balanced", "data.samples_per_epoch=320").data
    datamodule: DataModule = instantiate(config, "data")
    datamodule.setup("fit")
    with caplog.at_level(logging.INFO):
        loader = datamodule.train_dataloader()
    assert (datamodule.epoch_size, len(loader)) == (320, 10)
    text = "sampling: 320 samples per epoch from 168 images, each image 1 to 20 times (data.sampler: balanced)"
    assert text in caplog.text
    targets = torch.cat([batch[1] for batch in loader])
    assert targets.bincount().tolist() == [160, 160]


def test_weights_by_name_are_the_shares_of_classes() -> None:
    config = compose("data=sample").data
    config.sampler = dict.fromkeys(FashionMNIST.classes, 0.0) | {"Shirt": 1.0, "Bag": 3.0}
    datamodule: DataModule = instantiate(config, "data")
    datamodule.setup("fit")
    targets = torch.cat([batch[1] for batch in datamodule.train_dataloader()])
    counts = dict(zip(datamodule.classes, targets.bincount(minlength=10).tolist(), strict=True))
    assert {name: count for name, count in counts.items() if count} == {"Shirt": 320, "Bag": 960}


def test_validation_is_not_sampled() -> None:
    datamodule = sample_datamodule("data.sampler=balanced", "data.samples_per_epoch=64")
    assert sum(len(batch[1]) for batch in datamodule.val_dataloader()) == 320
    assert len(datamodule.train_dataloader()) == 1


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Return a folder of 9 pictures of class a and one of class b, whose pixels differ."""
    root = tmp_path / "pictures"
    write_images(root, *(f"a/{number}.png" for number in range(9)), "b/0.png", size=(40, 40))
    Image.fromarray(torch.arange(1600, dtype=torch.uint8).view(40, 40).numpy()).save(root / "b" / "0.png")
    return root


@pytest.mark.parametrize("workers", [0, 1])
def test_repeats_of_an_uncached_image_have_different_crops_with_the_same_bits_after_resume(
    pictures: Path, workers: int
) -> None:
    arguments = [
        "data=folder", f"data.root={pictures}", "data.cache=none", "data.image_size=16", "data.batch_size=4",
        "data/augment=[resized_crop]", "data.val_fraction=0", "data.test_fraction=0", "data.sampler=balanced",
        "data.samples_per_epoch=16", f"data.num_workers={workers}",
    ]  # fmt: skip
    datamodule: DataModule = instantiate(compose(*arguments).data, "data")
    datamodule.setup("fit")
    batches = list(datamodule.train_dataloader())
    crops = torch.cat([images[targets == 1] for images, targets in batches])
    assert len(crops) == 8
    assert len(crops.flatten(1).unique(dim=0)) == 8
    datamodule.load_state_dict({"epoch": 0, "completed_batches": 2})
    for (images, targets), (same, labels) in zip(datamodule.train_dataloader(), batches[2:], strict=True):
        assert torch.equal(images, same)
        assert torch.equal(targets, labels)


def test_a_class_without_images_cannot_be_sampled() -> None:
    datamodule = sample_datamodule()
    datamodule.classes = [*datamodule.classes, "Hat"]
    weights = dict.fromkeys(datamodule.classes, 1.0)
    with pytest.raises(UserError, match=r"^data\.sampler\.Hat: .*no training images; set its weight to 0"):
        datamodule.build_class_sampler(weights)
    assert len(datamodule.build_class_sampler(weights | {"Hat": 0.0}).rows) == 10
    assert len(datamodule.build_class_sampler("balanced").rows) == 10  # the classes with images
