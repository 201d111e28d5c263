"""Options of a dataset.

PyTorch, Learn the Basics: Datasets & DataLoaders, "Loading a Dataset".
"""

# %%
# > The `Dataset` can specify options like the root location, if training or test data is wanted, whether to download the data if needed, and how to transform the data.
# root is the folder of the files, train chooses one of two sets, download=True fetches what is not there, and transform
# is a function that each picture goes through.
# Note: more precisely, these are options of torchvision's datasets; the class Dataset itself has none.
import inspect

from torch.utils.data import Dataset
from torchvision.datasets import FashionMNIST
from torchvision.transforms.v2.functional import pil_to_tensor

from pytorch_intro.tour.sample import sample_root

root = sample_root()
training = FashionMNIST(root, train=True, download=False, transform=pil_to_tensor)
test = FashionMNIST(root, train=False, download=True)  # all is there: nothing is fetched
assert (len(training), len(test)) == (1600, 400)
assert training[0][0].shape == (1, 28, 28)
assert list(inspect.signature(Dataset.__init__).parameters) == ["self", "args", "kwargs"]
list(inspect.signature(FashionMNIST.__init__).parameters)[1:]
# At work: src/pytorch_intro/data/ingest/source.py: DatasetSplits

# %%
# Without the files, and without permission to fetch them, it raises an error.
try:
    FashionMNIST("nowhere", download=False)
    answer = ""
except RuntimeError as error:
    answer = str(error)
assert "download=True" in answer
answer

# %%
# > A `Dataset` can be indexed like a list `dataset[index]`
# The result is a pair, the picture and its label. Here is the picture in letters: the brighter
# a dot, the denser its letter.
image, label = training[5]
assert image.equal(training.data[5:6])
assert label == training.targets[5]
assert training[5][1] == label != training[0][1]
rows = image[0, ::2].tolist()
letters = " .:-=+*#%@"
drawing = "\n".join("".join(letters[level * 9 // 255] for level in row) for row in rows)
f"{training.classes[label]}\n{drawing}"
# At work: src/pytorch_intro/data/dataset.py: InMemoryImageDataset.__getitem__
