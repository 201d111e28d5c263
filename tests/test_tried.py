"""The parts that the ablation tries do what their names say."""

from typing import Any

import pytest
import torch
from conftest import compose, sample_datamodule
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.functional import conv2d

from pytorch_intro.benchmarks.tried import (
    DiracInit,
    HardImages,
    Lookahead,
    NormBiasRate,
    ProgressiveResizing,
    UnsureViews,
    WhitenedCNN,
    Whitening,
)
from pytorch_intro.build import build_classifier, build_optimization
from pytorch_intro.classifier import Classifier
from pytorch_intro.datamodule import DataModule
from pytorch_intro.networks.cnn import CNN

LEARNED = ("model.cosine_stem=false",)


def fitted(*callbacks: Callback, overrides: tuple[str, ...] = LEARNED, steps: int = 1) -> tuple[Classifier, DataModule]:
    """The default classifier, all of which is learned, after a few steps on the sample."""
    config = compose("data=sample", "trainer=cpu", *overrides)
    datamodule = sample_datamodule()
    optimization = build_optimization(config.optimizer, config.scheduler)
    classifier = build_classifier(config.classifier, config.model, datamodule, *optimization)
    off: Any = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False)
    trainer = Trainer(accelerator="cpu", max_steps=steps, limit_val_batches=0, callbacks=[*callbacks], **off)
    trainer.fit(classifier, datamodule)
    return classifier, datamodule


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_whitening_makes_the_patches_components_uncorrelated_of_variance_1() -> None:
    """Those of components that vary at all; and the stem is not trained."""
    torch.manual_seed(0)
    left_out = ("~model.poolings", "~model.residuals", "~model.cosine_stem")
    overrides = ("model._target_=pytorch_intro.benchmarks.tried.WhitenedCNN", *left_out)
    classifier, datamodule = fitted(Whitening(images=1000), overrides=overrides)
    assert isinstance(classifier.network, WhitenedCNN)
    images = datamodule.normalize(datamodule.train_set.__getitems__(range(1000))[0])
    components = conv2d(images, classifier.network.stem.weight, stride=2).movedim(1, -1).flatten(0, 2)
    torch.testing.assert_close(components[:, :16], -components[:, 16:])
    covariance = components[:, :16].T.cov()
    torch.testing.assert_close(covariance[8:, 8:], torch.eye(8), atol=0.4, rtol=0)
    assert (covariance - covariance.diag().diag()).abs().max() < 0.01


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_dirac_filters_hand_their_input_on() -> None:
    seen: dict[str, Tensor] = {}

    class Look(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
            second = pl_module.network.layers[4]
            images = torch.rand(1, 16, 8, 8)
            seen.update(given=images, made=second(images)[:, :16])

    fitted(DiracInit(), Look())
    torch.testing.assert_close(seen["made"], seen["given"])


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_norm_biases_have_a_rate_of_their_own_that_the_schedule_moves_too() -> None:
    rates: list[dict[int, float]] = []

    class Look(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            groups = trainer.optimizers[0].param_groups
            rates.append({id(p): group["lr"] for group in groups for p in group["params"]})

    classifier, _ = fitted(NormBiasRate(factor=3), Look(), steps=3)
    norms = [module for module in classifier.network.modules() if isinstance(module, nn.BatchNorm2d)]
    for step in rates:
        assert len(step) == len(list(classifier.network.parameters()))
        assert all(step[id(norm.bias)] == pytest.approx(3 * step[id(norm.weight)]) for norm in norms)
    assert rates[0] != rates[2]


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_lookahead_puts_the_weights_between_the_slow_ones_and_their_own() -> None:
    """At the end of the training the slow average counts 0.95 of the whole."""
    torch.manual_seed(0)
    alone, _ = fitted(steps=1)
    lookahead = Lookahead(every_n_steps=1)
    torch.manual_seed(0)
    begin: list[Tensor] = []

    class Look(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
            begin.append(pl_module.network.layers[0].weight.detach().clone())

    together, _ = fitted(Look(), lookahead, steps=1)
    first = [model.network.layers[0].weight for model in (alone, together)]  # type: ignore[index, union-attr]
    torch.testing.assert_close(first[1], 0.95 * begin[0] + 0.05 * first[0])


def test_progressive_resizing_shows_smaller_images_first_and_only_in_training() -> None:
    resizing = ProgressiveResizing(sides=[12])
    network = nn.Identity()
    network.register_forward_pre_hook(resizing.resize)
    images = torch.rand(2, 1, 28, 28)
    assert network(images).shape == (2, 1, 12, 12)
    assert torch.equal(network.eval()(images), images)
    resizing.epoch = 1
    assert torch.equal(network.train()(images), images)


def test_sure_images_are_looked_at_once() -> None:
    """With a margin of 1 no image is sure, and the logits are those of both views."""

    def classifier(margin: float, kind: type = UnsureViews) -> Classifier:
        torch.manual_seed(0)
        given = {"margin": margin} if kind is UnsureViews else {"tta_flip": True}
        network = CNN((1, 28, 28), 10, width=4)
        return kind(network=network, num_classes=10, optimizer=None, scheduler=None, **given).eval()

    images = torch.rand(6, 1, 28, 28)
    both = classifier(1, Classifier)
    torch.testing.assert_close(classifier(1)(images), both(images))
    torch.testing.assert_close(classifier(1e-9)(images), both.tta_logits(images)[0])


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_the_harder_part_of_a_batch_is_trained_on() -> None:
    """After the first epoch: a quarter of the batch, whose losses are the largest."""
    classifier, datamodule = fitted(
        overrides=("classifier._target_=pytorch_intro.benchmarks.tried.HardImages", "+classifier.share=0.25"), steps=9
    )
    assert isinstance(classifier, HardImages)
    assert classifier.current_epoch > 0
    classifier.train_metrics.reset()
    batch = datamodule.train_set.__getitems__(range(40))
    batch = (datamodule.normalize(batch[0]), batch[1])
    with torch.no_grad():
        losses = nn.functional.cross_entropy(classifier.train()(batch[0]), batch[1], reduction="none")
    classifier.label_smoothing = 0.0
    loss = classifier.training_step(batch, 0)["loss"]
    assert classifier.train_metrics.num_samples == 10
    assert loss > losses.mean()
