# %% [markdown]
# ## 1. Count the pictures
#
# How many pictures are in the training set of this tour, and how many are in the test set? Write the two numbers.

# %% template
pictures_to_learn_from = ...
pictures_for_the_test = ...

# %% solution
pictures_to_learn_from = 1600
pictures_for_the_test = 400

# %% wrong
pictures_to_learn_from = 2000
pictures_for_the_test = 400

# %% check
assert pictures_to_learn_from != 2000, (
    "2,000 is the number of all pictures. The test set is a part of them, and the rest is the training set."
)
assert pictures_to_learn_from == 1600, (
    "Chapter 1 prints the training set. Look for its number of pictures."
)
assert pictures_for_the_test == 400, (
    "All pictures are 2,000. How many remain without the training set?"
)

# %% [markdown]
# ## 2. Find the name of a class
#
# A dataset of torchvision has a list `classes` with the names of its classes. Write the function `class_name`. It gets a
# dataset and the number of a picture. It returns the name of the picture's class, for example "Bag".


# %% template
def class_name(dataset, number):
    raise NotImplementedError


# %% solution
def class_name(dataset, number):
    picture, label = dataset[number]
    return dataset.classes[label]


# %% wrong
def class_name(dataset, number):
    return dataset.classes[number]


# %% check
from torchvision.datasets import FashionMNIST

from pytorch_intro.tour.sample import sample_root

pictures = FashionMNIST(sample_root())
answer = class_name(pictures, 5)
assert answer is not None, "The function returns nothing. Is there a `return`?"
assert not isinstance(answer, int), (
    "This is the label, a number. `dataset.classes[label]` is its name."
)
assert answer != pictures.classes[5], (
    "You used the number of the picture as the number of the class. First get the label: `dataset[number]` is a pair of "
    "picture and label."
)
assert answer == "Bag", (
    f"Picture 5 is of the class Bag, but the function returns {answer!r}."
)
assert class_name(pictures, 0) == "Dress", "Picture 5 is right, but picture 0 is a Dress."

# %% [markdown]
# ## 3. Normalize a tensor
#
# Write the function `normalized`. It gets a tensor, which is a block of numbers (chapter 4). It subtracts the average
# of the tensor, and then divides by the standard deviation of the tensor. It returns the result, and does not change
# the tensor that it got. A tensor has the methods `mean()` and `std()`.


# %% template
def normalized(numbers):
    raise NotImplementedError


# %% solution
def normalized(numbers):
    return (numbers - numbers.mean()) / numbers.std()


# %% wrong
def normalized(numbers):
    return numbers - numbers.mean() / numbers.std()


# %% check
import torch

given = torch.tensor([1.0, 2.0, 3.0, 4.0])
answer = normalized(given)
assert isinstance(answer, torch.Tensor), (
    f"The function has to return a tensor, not {answer!r}."
)
assert given.tolist() == [1, 2, 3, 4], (
    "Your function changes the tensor it got. Use `-` and `/`, not `-=` and `/=`."
)
assert abs(answer.mean()) < 1e-5, (
    f"The average of the result is {answer.mean():.2f}, and should be 0. Python divides before it subtracts: do you need "
    "brackets?"
)
assert abs(answer.std() - 1) < 1e-5, (
    f"The standard deviation of the result is {answer.std():.2f}, and should be 1. Divide by `numbers.std()`."
)
assert answer[0] < 0 < answer[-1], (
    "The signs are the wrong way round: `numbers - numbers.mean()`."
)
