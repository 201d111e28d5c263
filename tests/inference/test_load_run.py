"""load_run loads a trained network for use in other code; the model card shows how."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Command, sample_datamodule
from PIL import Image

import pytorch_intro
from pytorch_intro import load_run
from pytorch_intro.common.errors import UserError
from pytorch_intro.config.paths import PROJECT
from pytorch_intro.inference.finished_run import FinishedRun
from pytorch_intro.runs.config_record import load_config
from pytorch_intro.training.tta import TTANetwork


def test_load_run_returns_the_tested_network(run_copy: Path) -> None:
    """The network is in eval mode and on the CPU; its accuracy on the test images is the recorded one."""
    network, classes, transforms = load_run(run_copy)
    datamodule = sample_datamodule()
    assert datamodule.test_set
    assert not network.training
    assert classes == datamodule.classes
    images, targets = datamodule.test_set.__getitems__(range(len(datamodule.test_set)))
    with torch.no_grad():
        correct = network(transforms.normalize(images)).argmax(dim=1) == targets
    assert correct.float().mean().item() == pytest.approx(
        json.loads((run_copy / "result.json").read_text())["test/accuracy"],
        abs=0.006,  # the run was tested in bfloat16
    )
    picture = Image.fromarray(images[0, 0].numpy()).convert("RGB").resize((56, 56), Image.Resampling.NEAREST)
    assert transforms(picture).shape == (1, 28, 28)
    assert transforms(picture).dtype == torch.float32


def test_the_network_without_lightning_computes_what_the_classifier_does(run_copy: Path) -> None:
    """With test-time augmentation and a temperature other than 1."""
    run = FinishedRun(run_copy)
    run.config.classifier.tta_shift = 1
    run.checkpoint["temperature"] = 0.5
    network, classifier = run.tta_network(), run.classifier()
    assert type(network) is TTANetwork
    assert network.tta_flip
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        assert network(images).equal(classifier(images))
    run.config.classifier.tta_shift = 9
    with pytest.raises(UserError, match=r"classifier\.tta_shift=9"):
        run.tta_network()


def test_a_run_from_before_there_was_a_choice_of_losses_loads(run_copy: Path) -> None:
    """Its label smoothing was a setting of the classifier."""
    config = yaml.safe_load((run_copy / "config.yaml").read_text())
    del config["loss"]
    config["classifier"]["label_smoothing"] = 0.2
    (run_copy / "config.yaml").write_text(yaml.safe_dump(config))
    assert len(load_run(run_copy).classes) == 10
    assert load_config(run_copy / "config.yaml").loss.label_smoothing == 0.2


def test_swapped_weights_of_another_run_are_refused(run_copy: Path) -> None:
    """Its shape and its config may be the same; a run of an older version has no ID to compare."""
    checkpoint = torch.load(run_copy / "checkpoints" / "best.ckpt", weights_only=True)
    lines = (run_copy / "config.yaml").read_text().splitlines(keepends=True)
    assert lines[1] == f"# run ID {checkpoint['run_id']}\n"
    (run_copy / "config.yaml").write_text("".join([lines[0], "# run ID 0123456789abcdef\n", *lines[2:]]))
    with pytest.raises(UserError, match=r"best\.ckpt: belongs to another run .*put the run's own checkpoint back"):
        load_run(run_copy)
    (run_copy / "config.yaml").write_text("".join([lines[0], *lines[2:]]))
    assert load_run(run_copy).classes


def test_the_package_is_imported_without_torch() -> None:
    """torch is only imported once load_run is accessed."""
    code = "import sys, pytorch_intro; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT / "src", check=True)
    assert pytorch_intro.load_run is load_run


def test_load_run_refuses_an_untrusted_target(run_copy: Path) -> None:
    text = (run_copy / "config.yaml").read_text()
    (run_copy / "config.yaml").write_text(text.replace("pytorch_intro.models.cnn.CNN", "os.mkdir"))
    with pytest.raises(UserError, match=": refused"):
        load_run(run_copy)


def test_a_network_in_src_is_allowed_and_one_elsewhere_is_refused(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module in src/ is allowed; the same module in another folder needs allow=[…]."""
    (tmp_path / "src").mkdir()
    text = "from pytorch_intro.models.mlp import MLP\n\n\nclass Own(MLP):\n    pass\n"
    (tmp_path / "src" / "own_network.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "src")
    trained = command("data=sample", "trainer=cpu", "trainer.max_epochs=1", "model=mlp",
                      "model._target_=own_network.Own", "name=own")  # fmt: skip
    assert trained.code == 0, trained.err
    run = tmp_path / "outputs" / "own"
    with pytest.raises(UserError, match=": refused"):
        load_run(run)
    assert load_run(run, allow=["own_network"]).classes[0] == "T-shirt/top"
    monkeypatch.setattr("pytorch_intro.safety.untrusted_config.PROJECT", tmp_path)
    assert load_run(run).classes[0] == "T-shirt/top"


def test_the_model_card_describes_the_run(finished_run: Path) -> None:
    """It has valid front matter and the values of result.json."""
    card = (finished_run / "README.md").read_text()
    result = json.loads((finished_run / "result.json").read_text())
    about = yaml.safe_load(card.split("---\n")[1])
    assert about["library_name"] == "pytorch"
    assert about["pipeline_tag"] == "image-classification"
    (measured,) = about["model-index"][0]["results"][0]["metrics"]
    assert measured["value"] == result["test/accuracy"]
    assert f"| test accuracy | {result['test/accuracy']:.2%} |" in card
    assert re.search(r"most often, .* is taken for .*: \d+ of \d+", card)
    assert result["command"] in card
    assert "python src/predict.py run=DIR images=PATH" in card
