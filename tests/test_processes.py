"""Several processes train together: really started, on this machine's cpu."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pytorch_intro.paths import PROJECT


class Numbered(Dataset[tuple[Tensor, int]]):
    """100 images, whose pixels are their numbers plus one."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.full((1, 8, 8), index + 1, dtype=torch.uint8), index % 2


class Recorder(nn.Module):
    """Writes the numbers of the images that a process trains on into a file of its own."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)

    def forward(self, images: Tensor) -> Tensor:
        if images.any():  # not the black ones that are tried beforehand
            with (self.folder / str(os.getpid())).open("a") as file:
                file.writelines(f"{number}\n" for number in images[:, 0, 0, 0].tolist())
        return images


def test_two_processes_share_every_epoch_and_write_one_result(tmp_path: Path) -> None:
    """Each trains on its own half, in a new order every epoch; together they see every image.

    The 9 validation images are 2 batches of 4 to the one and 1 to the other, which must not wait for each other.
    """
    arguments = [
        "data=dataset", "data.dataset._target_=test_processes.Numbered", "data.val_fraction=0.1", "data.batch_size=4",
        "+data.augment.recorder._target_=test_processes.Recorder", f"+data.augment.recorder.folder={tmp_path}",
        "trainer=cpu", "trainer.devices=2", "trainer.max_epochs=2", f"outputs={tmp_path / 'outputs'}", "name=two",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, PROJECT / "src" / "train.py", *arguments],
        env=os.environ | {"PYTHONPATH": str(PROJECT / "tests")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    shares = [[int(line) for line in file.read_text().split()] for file in tmp_path.iterdir() if file.is_file()]
    assert [len(share) for share in shares] == [2 * 41, 2 * 41]  # of 81, so that one is drawn twice
    first, second = (sorted({*shares[0][epoch], *shares[1][epoch]}) for epoch in (slice(41), slice(41, 82)))
    assert first == second
    assert len(first) == 81
    assert shares[0][:41] != shares[0][41:]
    assert json.loads((tmp_path / "outputs" / "two" / "result.json").read_text())["epochs"] == 2
