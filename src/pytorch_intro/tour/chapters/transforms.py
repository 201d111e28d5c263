# %% [markdown]
# # 10. Transforms
#
# To read on: PyTorch, Learn the Basics: Transforms.

# %% [markdown]
# > Data often requires transformation to be ready for learning.
#
# **PIL** is Python's library for pictures.
#
# The pictures of the dataset are objects of PIL. A network cannot compute with such an object. So the transform `ToImage`
# turns it into a tensor.
#
# The pixels are whole numbers from 0 to 255. The transform `ToDtype` with `scale=True` makes floats and divides by 255: from
# 0 to 1. Then `Normalize` subtracts the average and divides by the standard deviation, as in chapter 1.
#
# Prepare all pictures in the same way: those for the training, those for the test, and those in use. Use the same two
# numbers for all of them: the average and the standard deviation of the training set.

# %%
import torch
from torchvision.datasets import FashionMNIST
from torchvision.transforms import v2

from pytorch_intro.tour.sample import sample_root

root = sample_root()
picture, _ = FashionMNIST(root)[0]
try:
    torch.nn.Linear(28, 1)(picture)  # a small network (chapter 11)
    refused = ""
except TypeError as error:
    refused = str(error)
assert "Tensor" in refused
transform = v2.Compose(
    [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
)
ready = transform(picture)
scaled = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])(picture)
assert torch.allclose(ready, (scaled - 0.286) / 0.353)
assert 0 <= scaled.min() < scaled.max() <= 1
assert ready.shape == (1, 28, 28)
assert ready.dtype == torch.float32
assert -1 < ready.min() < 0 < ready.max() < 3
f"before: 0 to 255; after: {ready.min():.2f} to {ready.max():.2f}"
# At work: src/pytorch_intro/data/normalize.py: Normalize

# %% [markdown]
# > Both the features and labels may require such transformations.
#
# `target_transform` is the transform for the labels.
#
# A **one-hot** label has one number for each class: a one at the place of the label, and zeros everywhere
# else.
#
# The rest of the tour does not need it: networks can learn from plain labels.

# %%
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

# %% [markdown]
# A transform can also be random.
#
# To **flip** a picture means to mirror it: left becomes right. A mirrored shoe is still a shoe.
#
# The word **augmentation** means: change the training pictures by chance, so that a few pictures become many different
# ones. It helps against overfitting.
#
# Change only the training pictures by chance. The test pictures stay as they are.
#
# If a dataset applies the transform, each picture gets its own decision. But take care if you give it a whole batch, as
# chapter 16 does. The flip of torchvision then decides once: it flips all pictures, or none. The flip of this project
# decides for each picture.

# %%
from pytorch_intro.data.augment.basic import RandomHorizontalFlip

torch.manual_seed(1)
pair = torch.tensor([[1, 0]], dtype=torch.uint8)
pairs = pair.expand(200, 1, 1, 2)  # 200 pictures of two pixels
theirs = v2.RandomHorizontalFlip(0.5)(pairs)[:, 0, 0, 1].float().mean()
ours = RandomHorizontalFlip(0.5)(pairs)[:, 0, 0, 1].float().mean()
assert theirs in (0, 1), "all or none"
assert 0.3 < ours < 0.7, "half of them"
f"flipped: {theirs:.0%} of a batch by torchvision, {ours:.0%} by this project"
# At work: src/pytorch_intro/data/augment/basic.py: RandomHorizontalFlip

# %% [markdown]
# Here is one T-shirt, with eight different changes. A person still sees a T-shirt each time. The network has to learn the
# same.

# %%
from pytorch_intro.analysis.plots import plot_image_grid, to_pil_images

changes = {
    "flip": v2.RandomHorizontalFlip(1.0),
    "shift": v2.RandomAffine(0, translate=(0.2, 0.2)),
    "turn": v2.RandomRotation((15, 25)),
    "size": v2.RandomAffine(0, scale=(0.6, 0.8)),
    "slant": v2.RandomAffine(0, shear=25),
    "crop": v2.RandomResizedCrop(28, scale=(0.4, 0.7)),
    "brightness": v2.ColorJitter(brightness=(0.3, 0.5)),
    "cover": v2.RandomErasing(1.0, scale=(0.05, 0.2)),
}
shirts = FashionMNIST(root)
number = shirts.targets.tolist().index(shirts.classes.index("T-shirt/top"))
shirt = shirts.data[number][None]  # channel, row, column
variants = [shirt, *(change(shirt) for change in changes.values())]
assert all(variant.shape == (1, 28, 28) for variant in variants)
one_shirt = plot_image_grid(
    to_pil_images(torch.stack(variants)),
    ["original", *changes],
    "One T-shirt, augmented",
    columns=9,
)
one_shirt
# At work: src/pytorch_intro/data/augment/basic.py: RandomCrop
