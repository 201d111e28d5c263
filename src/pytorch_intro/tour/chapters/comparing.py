# %% [markdown]
# # 19. Is it really better?
#
# To read on: this project's docs/results.md. Bouthillier et al. 2021, Accounting for Variance in Machine Learning
# Benchmarks.

# %% [markdown]
# You have changed a setting. The accuracy was 79%, and now it is 80%. Is the new setting better? Perhaps it was luck.
#
# Where does luck come from? The parameters start with random numbers, and the order of the pictures is random.
#
# A **seed** is the number with which random numbers start. The same seed gives the same random numbers.
#
# The code below trains the same network several times. Only the seed is different. We compare with validation pictures. The
# test pictures come once, at the end of this chapter.

# %%
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pytorch_intro.tour.practice import load_pictures

all_images, all_labels, test_images, test_labels = load_pictures()
images, labels = all_images[400:], all_labels[400:]
# The pictures are in random order in the files, so the first 400 are a fair mix.
val_images, val_labels = all_images[:400], all_labels[:400]
assert val_labels.bincount().min() > 30


def train_with(seed, rate):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    for _ in range(3):
        for rows in torch.randperm(len(images)).split(64):
            loss = cross_entropy(network(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network


def accuracy(network, images, labels):
    network.eval()
    with torch.no_grad():
        answers = network(images).argmax(dim=1)
    return (answers == labels).float().mean().item()


def accuracy_with(seed, rate):
    return accuracy(train_with(seed, rate), val_images, val_labels)


old = [accuracy_with(seed, rate=0.02) for seed in range(6)]
assert accuracy_with(0, rate=0.02) == old[0]
assert len(set(old)) > 1
assert max(old) - min(old) > 0.005
", ".join(f"{value:.1%}" for value in old)
# At work: conf/train.yaml: seed

# %% [markdown]
# Nothing has changed but the seed. Still, the best result is clearly higher than the worst. So one run with each setting
# proves nothing.
#
# Repeat the training with several seeds. Then write the mean and the standard deviation. The mean is the average. The
# standard deviation is how far a single result is typically from it. It is what ± means here.
#
# How many seeds? Decide before you start, for example ten. If you add seeds until the result looks good, you will often
# find luck. Here are six.

# %%
from statistics import mean, stdev

new = [accuracy_with(seed, rate=0.1) for seed in range(6)]
for name, values in (("old, learning rate 0.02", old), ("new, learning rate 0.1", new)):
    print(f"{name}: {mean(values):.1%} ± {stdev(values):.1%}, {len(values)} seeds")
# At work: src/pytorch_intro/sweeps/summary.py: Group.std

# %% [markdown]
# A **paired difference** is the new result minus the old result with the same seed. Both trainings then had the same first
# parameters and the same order of the pictures. So they share a part of the luck, and this part is gone.
#
# The **standard error** is how exact a mean is. Divide the standard deviation by the square root of how many results there
# are.
#
# Compare the mean difference with its standard error. How large is it?
#
# 1. Less than two standard errors: you do not know.
# 2. Between two and three: perhaps it is not luck. Repeat it with new seeds, and count only those.
# 3. More than three: it is hardly luck. You can report it.
#
# How much do pairs help? It depends. Learning rates 0.02 and 0.1 are far apart, and share little of the luck. So pairs do
# not help: the standard error is about as large as without them.
#
# The learning rates 0.1 and 0.15 are near each other, and share most of it: the standard error is much smaller. Pairs cost
# nothing, so use them.


# %%
def compare(name, old, new):
    differences = [b - a for a, b in zip(old, new, strict=True)]
    error = stdev(differences) / len(differences) ** 0.5
    without_pairs = (stdev(old) ** 2 + stdev(new) ** 2) ** 0.5 / len(old) ** 0.5
    print(
        f"{name}: difference {mean(differences):.1%}, "
        f"standard error {error:.1%} ({without_pairs:.1%} without pairs)"
    )
    return mean(differences), error, error / without_pairs


difference, error, share = compare("0.02 to 0.1", old, new)
assert difference > 2 * error
near = [accuracy_with(seed, rate=0.15) for seed in range(6)]
small_difference, small_error, small_share = compare("0.1 to 0.15", new, near)
assert abs(small_difference) < 2 * small_error  # perhaps only luck
assert small_share < 0.8
assert small_share < share
assert 0.7 < share < 1.4

# %% [markdown]
# Here are all results. Each line connects two results with the same seed. If there are many lines, and nearly all go in
# the same direction, the difference is probably real. The standard error shows it more exactly.

# %%
from pytorch_intro.tour.pictures import draw_pairs

better_or_luck = draw_pairs({"old: 0.02": old, "new: 0.1": new})
better_or_luck

# %% [markdown]
# There is more luck: in the choice of the test pictures. With other pictures, the accuracy would be a little different. How
# much? With n pictures and the accuracy p, the standard error is the square root of p (1 - p) / n.
#
# For 80% of 400 pictures, this is 2%. So a test with 400 pictures cannot show that a network is better by half a percent.
#
# Did both networks get the same 400 pictures? Then half a percent is two pictures. Even if the networks differ in these two
# only, that can be luck. Imagine that a coin decides, for each of these two pictures, which network gets it right. In one of
# two tries, the same network gets both.
#
# More seeds do not help against this kind of luck, because all of them use the same test pictures. More test pictures help.
#
# Is the formula right? The code below draws 100 answers at random, again and again. They are from 400 answers, and 320 of
# these are right. So the accuracy is a little different each time. We compare its standard deviation with the formula.

# %%
torch.manual_seed(0)
correct = (torch.arange(400) < 320).float()  # 80% of 400 pictures
accuracies = torch.stack([correct[torch.randint(400, (100,))].mean() for _ in range(2000)])
formula = (0.8 * 0.2 / 100) ** 0.5
assert abs(accuracies.std().item() - formula) < 0.1 * formula
assert abs((0.8 * 0.2 / 400) ** 0.5 - 0.02) < 1e-9
assert round(0.005 * 400) == 2
assert 0.5**2 + 0.5**2 == 1 / 2
f"with 100 pictures: measured {accuracies.std():.1%}, formula {formula:.1%}"

# %% [markdown]
# And there is luck in choosing. Take the best of many results, and you choose the luckiest one.
#
# The code below has 100 programs that only guess. Each is right for about one picture of ten. We take the one with the best
# accuracy in the test. It seems to know something. With new pictures, it is again right for one of ten.

# %%
guesses = torch.randint(10, (100, len(test_labels)))
shares = (guesses == test_labels).float().mean(dim=1)
best = shares.argmax()
again = (torch.randint(10, (len(labels),)) == labels).float().mean()
assert abs(shares.mean() - 0.1) < 0.01
assert shares[best] > 0.13
assert again < 0.13
(
    f"the best of 100 programs: {shares[best]:.1%}; "
    f"the same program with new pictures: {again:.1%}"
)
# At work: src/pytorch_intro/analysis/ranking.py: best_run

# %% [markdown]
# So choose with the validation set, as often as you want. The validation accuracy of what you choose is then a little too
# high: it was lucky. Use the test set once, at the very end, with the chosen setting only. What you then measure is fair.
#
# We have chosen the new learning rate with the validation pictures. Here is its test.

# %%
assert mean(new) > mean(old)
final = accuracy(train_with(seed=0, rate=0.1), test_images, test_labels)
error = (final * (1 - final) / len(test_labels)) ** 0.5
assert 0.6 < final < 0.9
f"test accuracy {final:.1%}, standard error {error:.1%}"

# %% [markdown]
# The command of this project works like this. It tests the network of the epoch that was best in the validation. With
# `python src/train.py -m seed=0,1,2,3,4` it trains with five seeds. Then it prints the mean and the standard deviation.

# %%
from pytorch_intro import compose

config = compose(["data=sample"])
assert config.callbacks.checkpoint.monitor == "val/accuracy"
assert config.data.val_fraction > 0
config.callbacks.checkpoint.monitor
# At work: src/pytorch_intro/training/checkpoint.py: select_checkpoint
