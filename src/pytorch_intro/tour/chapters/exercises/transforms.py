# %% [markdown]
# ## 1. One-hot by hand
#
# There are four classes. What is the one-hot form of the label 2? Write a list of four numbers.

# %% template
one_hot_of_2 = ...

# %% solution
one_hot_of_2 = [0, 0, 1, 0]

# %% wrong
one_hot_of_2 = [0, 1, 0, 0]

# %% check
answer = list(one_hot_of_2)
assert len(answer) == 4, (
    f"There are four classes, so the list has four numbers, not {len(answer)}."
)
assert answer != [0, 1, 0, 0], "Counting starts at 0. So the label 2 is the third place."
assert answer == [0, 0, 1, 0], "A one at the place of the label, and zeros everywhere else."

# %% [markdown]
# ## 2. A chain of transforms
#
# Write the function `make_transform`. It returns a transform for pictures of PIL. The transform makes an image tensor
# (`v2.ToImage`), then floats from 0 to 1 (`v2.ToDtype`), then normalizes with the average 0.5 and the standard deviation
# 0.25. `v2.Compose` makes a chain of transforms.

# %% template
import torch
from torchvision.transforms import v2


def make_transform():
    raise NotImplementedError


# %% solution
import torch
from torchvision.transforms import v2


def make_transform():
    return v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.25])]
    )


# %% wrong
import torch
from torchvision.transforms import v2


def make_transform():
    return v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32), v2.Normalize([0.5], [0.25])]
    )


# %% check
from PIL import Image

transform = make_transform()
assert callable(transform), f"The function has to return a transform, not {transform!r}."
white = transform(Image.new("L", (2, 2), 255))
assert isinstance(white, torch.Tensor), (
    "The transform does not return a tensor. Is `v2.ToImage()` the first one?"
)
assert white.dtype == torch.float32, (
    f"The dtype is {white.dtype}. Use `v2.ToDtype(torch.float32, …)`."
)
assert white.max() < 100, (
    "White becomes a very large number: the floats are from 0 to 255. `ToDtype` needs `scale=True` to make them 0 to 1."
)
assert abs(white.max() - 2) < 1e-5, (
    f"White should become (1 - 0.5) / 0.25 = 2, but becomes {white.max():.2f}."
)

# %% [markdown]
# ## 3. Flip each picture by itself
#
# Write the function `random_flip`. It gets a batch of pictures (N, C, H, W). It flips each picture left to right with a
# probability of one half. It decides for each picture by itself. It returns a new batch.
#
# `pictures.flip(-1)` flips all pictures. `torch.rand(n) < 0.5` gives n times True or False.
#
# You can use a loop. Without one: `torch.where(a, b, c)` takes b where a is True, otherwise c. `a.view(-1, 1, 1, 1)` gives a
# the four dimensions of the pictures.

# %% template
import torch


def random_flip(pictures):
    raise NotImplementedError


# %% solution
import torch


def random_flip(pictures):
    is_flipped = torch.rand(len(pictures)) < 0.5
    return torch.where(is_flipped.view(-1, 1, 1, 1), pictures.flip(-1), pictures)


# %% wrong
import torch


def random_flip(pictures):
    return pictures.flip(-1) if torch.rand(1) < 0.5 else pictures


# %% check
torch.manual_seed(0)
pictures = torch.arange(200 * 6.0).reshape(200, 1, 2, 3)
given = pictures.clone()
answer = random_flip(pictures)
assert isinstance(answer, torch.Tensor), (
    f"The function has to return a tensor, not {answer!r}."
)
assert torch.equal(pictures, given), (
    "Your function changes the batch it got. Work with a copy: `pictures.clone()`."
)
assert answer.shape == pictures.shape, (
    f"The shape changes from (200, 1, 2, 3) to {tuple(answer.shape)}."
)
is_same = (answer == pictures).all(dim=(1, 2, 3))
is_flipped = (answer == pictures.flip(-1)).all(dim=(1, 2, 3))
assert (is_same | is_flipped).all(), (
    "Some pictures are neither the same nor flipped left to right."
)
assert 0 < is_flipped.sum() < 200, (
    "All pictures are flipped, or none. Decide for each picture: you need one random number per picture."
)
assert 60 < is_flipped.sum() < 140, (
    f"Of 200 pictures, {is_flipped.sum()} are flipped. It should be about half."
)
