"""The notes' target_transform: labels mapped to others, by the classes' names."""

from collections.abc import Mapping

import torch

from pytorch_intro.dataset import Images
from pytorch_intro.errors import UserError


def relabel(images: Images, mapping: Mapping[str, str | int]) -> None:
    """Give each class of a data set the name that it is mapped to; classes of the same name become one.

    The new classes are numbered in the order in which the old ones lead to them.

    Args:
        mapping: From the name of each class to another name.

    Raises:
        UserError: if a class is missing in the mapping, or the mapping has one that there is not.
    """
    new_names = {str(old): str(new) for old, new in mapping.items()}
    for name in [*(name for name in images.classes if name not in new_names), *(new_names.keys() - images.classes)]:
        fault = "is not in the mapping" if name in images.classes else "is no class of the data set"
        raise UserError(f"data.target_transform: {name!r} {fault}; it takes each of {', '.join(images.classes)}")
    classes = list(dict.fromkeys(new_names[name] for name in images.classes))
    numbers = torch.tensor([classes.index(new_names[name]) for name in images.classes])
    images.targets = numbers[images.targets]
    images.classes = classes
