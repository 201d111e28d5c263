# %% [markdown]
# # 19. Is it really better?
#
# To read on: this project's docs/results.md. Bouthillier et al. 2021, Accounting for Variance in Machine Learning Benchmarks.

# %% [markdown]
# You have changed a setting. The accuracy was 79%, and now it is 80%. Is the new setting better? Perhaps it was luck.
#
# Where does luck come from? The parameters start with random numbers, and the order of the pictures is random. The
# **seed** is the number with which the random numbers start. The same seed gives the same random numbers.
#
# The code below trains the same network several times. Only the seed is different.

# %%
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pytorch_intro.tour.practice import load_pictures

images, labels, test_images, test_labels = load_pictures()


def accuracy_with(seed, rate):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    for _ in range(3):
        for rows in torch.randperm(len(images)).split(64):
            loss = cross_entropy(network(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        answers = network(test_images).argmax(dim=1)
    return (answers == test_labels).float().mean().item()


old = [accuracy_with(seed, rate=0.1) for seed in range(8)]
assert accuracy_with(0, rate=0.1) == old[0]
assert len(set(old)) > 1
assert max(old) - min(old) > 0.005
", ".join(f"{accuracy:.1%}" for accuracy in old)
# At work: conf/train.yaml: seed

# %% [markdown]
# Nothing has changed but the seed. Still, the best result is clearly higher than the worst. So one run with each setting
# proves nothing.
#
# Repeat the training with several seeds. Then write the mean and the standard deviation. The mean is the average. The standard
# deviation is how far a single result is typically from it.

# %%
from statistics import mean, stdev

new = [accuracy_with(seed, rate=0.02) for seed in range(8)]
for name, values in (("learning rate 0.1", old), ("learning rate 0.02", new)):
    print(f"{name}: {mean(values):.1%} ± {stdev(values):.1%}, {len(values)} seeds")
# At work: src/pytorch_intro/sweeps/summary.py: Group.std

# %% [markdown]
# Both settings were trained with the same seeds. So each pair has the same first parameters and the same order of the
# pictures. What was luck for one was luck for the other. Subtract them: that is the **paired difference**. Much of the
# luck is gone then.
#
# How exact is the mean of these differences? Divide their standard deviation by the square root of their number. The result
# is called the **standard error**. If the mean is more than twice as large, it is probably not luck. If it is more than three
# times as large, it is hardly luck.

# %%
differences = [a - b for a, b in zip(old, new, strict=True)]
error = stdev(differences) / len(differences) ** 0.5
assert mean(differences) > 2 * error
f"the difference is {mean(differences):.1%}, and its standard error is {error:.1%}"

# %% [markdown]
# Here are all results. Each line connects two results with the same seed. If nearly all lines go in the same direction, the
# difference is real.

# %%
from pytorch_intro.tour.pictures import draw_pairs

better_or_luck = draw_pairs({"learning rate 0.02": new, "learning rate 0.1": old})
better_or_luck

# %% [markdown]
# There is more luck: in the choice of the test pictures. With other pictures, the accuracy would be a little different. How
# much? With n pictures and the accuracy p, the standard error is the square root of p (1 - p) / n.
#
# For 80% of 400 pictures, this is 2%. So a test with 400 pictures cannot show that a network is better by half a percent.
#
# Is the formula right? The code below takes 100 of the 400 test pictures at random, again and again. It compares how much
# the accuracy changes with the formula.

# %%
torch.manual_seed(0)
correct = (torch.arange(400) < 320).float()  # 80% of 400 pictures
accuracies = torch.stack([correct[torch.randint(400, (100,))].mean() for _ in range(2000)])
formula = (0.8 * 0.2 / 100) ** 0.5
assert abs(accuracies.std().item() - formula) < 0.1 * formula
assert abs((0.8 * 0.2 / 400) ** 0.5 - 0.02) < 1e-9
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
f"the best of 100 guesses: {shares[best]:.1%}; the same program with new pictures: {again:.1%}"
# At work: src/pytorch_intro/analysis/ranking.py: best_run

# %% [markdown]
# So choose with the validation set, as often as you want. Use the test set once, at the very end. What you then measure is
# fair.
#
# The command of this project works like this. It tests the network of the epoch that was best in the validation. With
# `python src/train.py -m seed=0,1,2` it trains with three seeds. Then it prints the mean and the standard deviation.

# %%
from pytorch_intro import compose

config = compose(["data=sample"])
assert config.callbacks.checkpoint.monitor == "val/accuracy"
assert config.data.val_fraction > 0
config.callbacks.checkpoint.monitor
# At work: src/pytorch_intro/training/checkpoint.py: select_checkpoint
