# %% [markdown]
# # 7. Options of a dataset
#
# To read on: PyTorch, Learn the Basics: Datasets & DataLoaders, "Loading a Dataset".

# %% [markdown]
# > The `Dataset` can specify options like the root location, if training or test data is wanted, whether to download the data if needed, and how to transform the data.
#
# `root` is the folder with the files.
#
# `train=True` gives you the training set. `train=False` gives you the test set.
#
# `download=True` downloads the files if they are not in the folder yet.
#
# `transform` is a function. The dataset applies it to each picture.
#
# **Note:** more precisely, these are options of the datasets in torchvision. The class `Dataset` itself has no options.

# %%
import inspect

from torch.utils.data import Dataset
from torchvision.datasets import FashionMNIST
from torchvision.transforms.v2.functional import pil_to_tensor

from pytorch_intro.tour.sample import sample_root

root = sample_root()
training = FashionMNIST(root, train=True, download=False, transform=pil_to_tensor)
test = FashionMNIST(root, train=False, download=True)  # the files are here: no download
assert (len(training), len(test)) == (1600, 400)
assert training[0][0].shape == (1, 28, 28)
assert list(inspect.signature(Dataset.__init__).parameters) == ["self", "args", "kwargs"]
list(inspect.signature(FashionMNIST.__init__).parameters)[1:]
# At work: src/pytorch_intro/data/ingest/source.py: DatasetSplits

# %% [markdown]
# What if the files are missing and `download` is False? Then you get an error.

# %%
try:
    FashionMNIST("nowhere", download=False)
    answer = ""
except RuntimeError as error:
    answer = str(error)
assert "download=True" in answer
answer

# %% [markdown]
# > A `Dataset` can be indexed like a list `dataset[index]`
#
# To **index** means: you write a number in square brackets, and you get the sample with this number. Counting starts at 0.
#
# The result has two parts: the picture and its label. Below, the picture is printed with characters. Bright pixels become
# dense characters.

# %%
image, label = training[5]
assert image.equal(training.data[5:6])
assert label == training.targets[5]
assert label != training[0][1]
rows = image[0, ::2].tolist()  # every second row: characters are higher than wide
characters = " .:-=+*#%@"
print(training.classes[label])
for row in rows:
    print("".join(characters[level * 9 // 255] for level in row))
# At work: src/pytorch_intro/data/dataset.py: InMemoryImageDataset.__getitem__
