"""Transforms.

PyTorch, Learn the Basics: Transforms.
"""

# %%
# > Data often requires transformation to be ready for learning.
# A picture of PIL, Python's picture library, is nothing that a network can compute with; and bytes from 0 to 255 are
# too large for it. Numbers of a mean of 0 and a deviation of 1 are right.
import torch
from torchvision.datasets import FashionMNIST
from torchvision.transforms import v2

from pytorch_intro.tour.sample import sample_root

root = sample_root()
picture, _ = FashionMNIST(root)[0]
try:
    torch.nn.Linear(28, 1)(picture)
    refused = ""
except TypeError as error:
    refused = str(error)
assert "Tensor" in refused
transform = v2.Compose(
    [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
)
ready = transform(picture)
assert ready.shape == (1, 28, 28)
assert ready.dtype == torch.float32
assert -1 < ready.min() < 0 < ready.max() < 3
f"{ready.min():.2f} to {ready.max():.2f}"
# At work: src/pytorch_intro/data/normalize.py: Normalize

# %%
# > Both the features and labels may require such transformations.
# target_transform is the labels' own. Here it makes a row of ten numbers of each label, with a one in its place: one-hot, as
# this is called.
from torch.nn.functional import one_hot

pictures = FashionMNIST(
    root,
    transform=transform,
    target_transform=lambda label: one_hot(torch.tensor(label), num_classes=10),
)
features, target = pictures[0]
assert torch.equal(features, ready)
assert target.tolist() == [float(number == pictures.targets[0]) for number in range(10)]
target
# At work: src/pytorch_intro/data/ingest/relabel.py: relabel

# %%
# Random transforms make more of few pictures: a shoe that looks to the left is a shoe that looks to the right. This is called
# augmentation. Given a whole batch, torchvision's draw once for all of it; this project's draw for each picture.
from pytorch_intro.data.augment.basic import RandomHorizontalFlip

torch.manual_seed(1)
pair = torch.tensor([[1, 0]], dtype=torch.uint8).expand(
    200, 1, 1, 2
)  # 200 pictures of two dots
theirs = v2.RandomHorizontalFlip(0.5)(pair)[:, 0, 0, 1].float().mean()
ours = RandomHorizontalFlip(0.5)(pair)[:, 0, 0, 1].float().mean()
assert theirs in (0, 1), "all or none"
assert 0.3 < ours < 0.7, "half of them"
f"flipped: {theirs:.0%} of a batch by torchvision, {ours:.0%} by this project"
# At work: src/pytorch_intro/data/augment/basic.py: RandomHorizontalFlip
