# %% [markdown]
# ## 1. The shape of a batch
#
# A batch has 32 color pictures. Each picture is 200 pixels high and 100 pixels wide. What is the shape of the tensor? Write
# four numbers in brackets, for example (1, 2, 3, 4).

# %% template
shape_of_color_pictures = ...

# %% solution
shape_of_color_pictures = (32, 3, 200, 100)

# %% wrong
shape_of_color_pictures = (32, 200, 100, 3)

# %% check
answer = tuple(shape_of_color_pictures)
assert len(answer) == 4, (
    f"The shape has four numbers, not {len(answer)}: picture, channel, row, column."
)
assert sorted(answer) != sorted((32, 1, 200, 100)), (
    "A color picture has three channels: red, green and blue."
)
assert answer[0] == 32, "The first number is how many pictures are in the batch."
assert answer[1] == 3, (
    "The order is: picture, channel, row, column. So the second number is that of the channels."
)
assert answer == (32, 3, 200, 100), (
    "Rows come before columns. How many rows has a picture that is 200 pixels high?"
)

# %% [markdown]
# ## 2. From array to tensor and back
#
# Write the function `doubled`. It gets a NumPy array. It makes a tensor from it, multiplies the tensor by 2, and
# returns the result as a NumPy array. The array it got must stay as it is.


# %% template
def doubled(array):
    raise NotImplementedError


# %% solution
import torch


def doubled(array):
    tensor = torch.from_numpy(array)
    return (tensor * 2).numpy()


# %% wrong
import torch


def doubled(array):
    tensor = torch.from_numpy(array)
    tensor *= 2
    return tensor.numpy()


# %% check
import numpy as np

given = np.array([1.0, 2.0])
answer = doubled(given)
assert isinstance(answer, np.ndarray), (
    f"The result is of the type {type(answer).__name__}. `.numpy()` makes an array."
)
assert answer.tolist() == [2, 4], (
    f"Two times [1, 2] is [2, 4], but the function returns {answer.tolist()}."
)
assert given.tolist() == [1, 2], (
    "The array that you got has changed, too: it shares memory with the tensor. Use `tensor * 2`, not `tensor *= 2`."
)

# %% [markdown]
# ## 3. Average brightness
#
# Write the function `brightness`. It gets a batch of pictures of the shape (N, C, H, W) and the dtype uint8. It returns
# the average brightness of each picture, a tensor of N numbers from 0 to 1, where 255 becomes 1.
#
# An average needs decimal numbers: `pictures.float()` makes them. `mean(dim=(1, 2, 3))` is the average over these three
# dimensions.


# %% template
def brightness(pictures):
    raise NotImplementedError


# %% solution
def brightness(pictures):
    return pictures.float().mean(dim=(1, 2, 3)) / 255


# %% wrong
def brightness(pictures):
    return pictures.float().mean() / 255


# %% check
import torch

pictures = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
pictures[1] = 255
pictures[2, 0, :2] = 255
answer = brightness(pictures)
assert isinstance(answer, torch.Tensor), (
    f"The function has to return a tensor, not {answer!r}."
)
assert answer.ndim > 0, (
    "The result is one number for the whole batch. `mean(dim=(1, 2, 3))` keeps the first dimension, the pictures."
)
assert answer.shape == (3,), (
    f"Three pictures need three numbers, but the shape is {tuple(answer.shape)}."
)
assert answer.max() <= 1, "A white picture should have the brightness 1. Divide by 255."
assert answer.tolist() == [0, 1, 0.5], (
    f"It should be [0, 1, 0.5] (black, white, half), but is {answer.tolist()}."
)
color = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
color[1, :2] = 255
answer = brightness(color)
assert answer.shape == (2,), (
    f"Two color pictures need two numbers, but the shape is {tuple(answer.shape)}. The average is over the channels, too."
)
assert abs(answer[1] - 2 / 3) < 1e-5, (
    f"With two of three channels at 255, the brightness is 0.67, but you return {answer[1]:.2f}."
)
