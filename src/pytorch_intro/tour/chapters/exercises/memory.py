# %% [markdown]
# ## 1. Shared or copied?
#
# `array` is a NumPy array. For each line, write True if the result shares memory with `array`, or False if it is a copy.

# %% template
from_numpy_shares = ...  # torch.from_numpy(array)
tensor_shares = ...  # torch.tensor(array)
as_tensor_shares = ...  # torch.as_tensor(array)

# %% solution
from_numpy_shares = True
tensor_shares = False
as_tensor_shares = True

# %% wrong
from_numpy_shares = True
tensor_shares = True
as_tensor_shares = True

# %% check
assert from_numpy_shares is True, (
    "`torch.from_numpy` makes no copy: try `array[0] = 7` and look at the tensor."
)
assert tensor_shares is False, (
    "`torch.tensor(array)` always makes a copy: try `array[0] = 7` and look at the tensor."
)
assert as_tensor_shares is True, (
    "`torch.as_tensor` avoids a copy if it can, and here it can."
)

# %% [markdown]
# ## 2. An independent array
#
# Write the function `snapshot`. It gets a tensor on the CPU. It returns a NumPy array with its values. If the tensor
# changes later, the array must not change.


# %% template
def snapshot(tensor):
    raise NotImplementedError


# %% solution
def snapshot(tensor):
    return tensor.numpy().copy()


# %% wrong
def snapshot(tensor):
    return tensor.numpy()


# %% check
import numpy as np
import torch

tensor = torch.zeros(3)
answer = snapshot(tensor)
assert isinstance(answer, np.ndarray), (
    f"The result is of the type {type(answer).__name__}. `.numpy()` makes an array."
)
tensor += 1
assert answer.tolist() == [0, 0, 0], (
    "The array changes with the tensor: they share memory. Make a copy: an array has the method `copy()`."
)

# %% [markdown]
# ## 3. Move bytes, not floats
#
# Write the function `to_device_as_floats`. It gets a tensor of the dtype uint8 and the name of a device. It returns the
# tensor on this device with the dtype float32, and it moves as few bytes as possible.


# %% template
def to_device_as_floats(pictures, device):
    raise NotImplementedError


# %% solution
def to_device_as_floats(pictures, device):
    return pictures.to(device).float()


# %% wrong
def to_device_as_floats(pictures, device):
    return pictures.float().to(device)


# %% check
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Moves(TorchDispatchMode):
    """Records the dtypes of tensors that move to another device."""

    def __init__(self):
        super().__init__()
        self.dtypes = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        result = operation(*arguments, **(options or {}))
        first = arguments[0] if arguments else None
        if (
            isinstance(first, torch.Tensor)
            and isinstance(result, torch.Tensor)
            and first.device != result.device
        ):
            self.dtypes.append((first.dtype, result.dtype))
        return result


with Moves() as moves:
    answer = to_device_as_floats(torch.zeros(5, dtype=torch.uint8), "meta")
assert isinstance(answer, torch.Tensor), (
    f"The function has to return a tensor, not {answer!r}."
)
assert answer.device.type == "meta", (
    f"The result is on {answer.device}. Move the tensor to `device`."
)
assert answer.dtype == torch.float32, (
    f"The dtype of the result is {answer.dtype}. `.float()` makes float32."
)
assert moves.dtypes[:1] == [(torch.uint8, torch.uint8)], (
    "You move floats, and that is four times as much. First move the bytes, and then convert them on the device."
)
