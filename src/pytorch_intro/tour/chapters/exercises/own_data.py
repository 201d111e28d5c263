# %% [markdown]
# ## 1. Always the same answer
#
# A lazy program always gives the most frequent label as its answer. Write the function `lazy_accuracy`. It gets a list of
# labels. It returns the accuracy of the lazy program, from 0 to 1.

# %% template
def lazy_accuracy(labels):
    raise NotImplementedError


# %% solution
from collections import Counter


def lazy_accuracy(labels):
    return max(Counter(labels).values()) / len(labels)


# %% wrong
from collections import Counter


def lazy_accuracy(labels):
    return 1 / len(Counter(labels))


# %% check
labels = ["cup"] * 90 + ["key"] * 8 + ["leaf"] * 2
answer = lazy_accuracy(labels)
assert answer is not None, "The function returns nothing. Is there a `return`?"
assert abs(answer - 1 / 3) > 1e-6, (
    "1/3 is the accuracy of a random guess. The lazy program answers cup each time, and 90 of these 100 pictures are cups."
)
assert answer <= 1, f"An accuracy is a share, from 0 to 1, but you return {answer}."
assert abs(answer - 0.9) < 1e-6, (
    f"90 of the 100 labels are cup, so the accuracy is 0.9, but you return {answer}."
)

# %% [markdown]
# ## 2. Find the copies
#
# Write the function `find_copies`. It gets a tensor of pictures, uint8 (N, H, W). It returns a list of pairs (first, copy):
# the number of a picture, and the number of a later picture with the same pixels. `tensor.numpy().tobytes()` returns the
# pixels in a form that can be a key of a dict. So you need no hash.


# %% template
def find_copies(pictures):
    raise NotImplementedError


# %% solution
def find_copies(pictures):
    first, copies = {}, []
    for number, picture in enumerate(pictures):
        key = picture.numpy().tobytes()
        if key in first:
            copies.append((first[key], number))
        else:
            first[key] = number
    return copies


# %% wrong
def find_copies(pictures):
    copies = []
    for number in range(1, len(pictures)):
        if (pictures[number] == pictures[number - 1]).all():
            copies.append((number - 1, number))
    return copies


# %% check
import torch

torch.manual_seed(0)
pictures = torch.randint(256, (6, 4, 4), dtype=torch.uint8)
pictures[4] = pictures[1]
pictures[3] = pictures[2]
answer = find_copies(pictures)
assert isinstance(answer, list), f"The function has to return a list, not {answer!r}."
pairs = sorted(tuple(int(number) for number in pair) for pair in answer)
assert not any(first == copy for first, copy in pairs), (
    "A picture is not a copy of itself. Look for it before you store it."
)
assert all(first < copy for first, copy in pairs), (
    f"The smaller number comes first: (first, copy). You return {pairs}."
)
assert (1, 4) in pairs, (
    "Pictures 1 and 4 are the same, but you have not found them. A copy can be anywhere, not only next to the first one."
)
assert pairs == [(1, 4), (2, 3)], (
    f"The copies are (1, 4) and (2, 3): the smaller number first. You return {pairs}."
)
assert find_copies(pictures[:3]) == [], "If there are no copies, return an empty list."

# %% [markdown]
# ## 3. A split without a leak
#
# You have several photographs of each cup. The name of a file starts with the name of the cup: `red_1.png` and `red_2.png`
# are the same cup. If one is in the training set and the other in the test set, the test is not fair.
#
# Write the function `split_by_object`. It gets a list of file names, and a set of cups for the test. It returns two lists:
# the file names for the training, and those for the test.


# %% template
def split_by_object(names, cups_for_the_test):
    raise NotImplementedError


# %% solution
def split_by_object(names, cups_for_the_test):
    training, test = [], []
    for name in names:
        cup = name.split("_")[0]
        (test if cup in cups_for_the_test else training).append(name)
    return training, test


# %% wrong
def split_by_object(names, cups_for_the_test):
    count = len(cups_for_the_test)
    return names[count:], names[:count]


# %% check
names = [
    f"{cup}_{number}.png"
    for number in (1, 2)
    for cup in ("red", "darkblue", "blue", "blueish")
]
answer = split_by_object(names, {"blue"})
assert answer is not None and len(answer) == 2, (
    f"The function has to return two lists, for the training and for the test, not {answer!r}."
)
training, test = answer
assert sorted([*training, *test]) == sorted(names), (
    "Each file belongs in exactly one of the two lists. Some are missing, or are there twice."
)
leaked = {name.split("_")[0] for name in training} & {name.split("_")[0] for name in test}
assert not leaked, (
    f"There is a leak: photographs of the cup {sorted(leaked)[0]} are in both lists."
)
assert sorted(test) == ["blue_1.png", "blue_2.png"], (
    f"With the test cup blue, the test has blue_1.png and blue_2.png, but you return {test}."
)
