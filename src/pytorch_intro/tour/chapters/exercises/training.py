# %% [markdown]
# ## 1. Repair: the accuracy is too low
#
# This function tests a network after its training. Something is missing: the accuracy is too low, and differs each time. It
# is number 5 of the five mistakes. Repair it.

# %% template
import torch


def test_accuracy(network, images, labels):
    """Return the share of correct answers."""
    with torch.no_grad():
        answers = network(images).argmax(dim=1)
    return (answers == labels).float().mean().item()


# %% solution
import torch


def test_accuracy(network, images, labels):
    """Return the share of correct answers."""
    network.eval()
    with torch.no_grad():
        answers = network(images).argmax(dim=1)
    return (answers == labels).float().mean().item()


# %% wrong
import torch


def test_accuracy(network, images, labels):
    """Return the share of correct answers."""
    with torch.no_grad():
        answers = network(images).softmax(dim=1).argmax(dim=1)
    return (answers == labels).float().mean().item()


# %% check
from torch import nn

from pytorch_intro.tour.practice import load_pictures, make_network

_, _, images, labels = load_pictures()
network = make_network().train()
first, second = (test_accuracy(network, images, labels) for _ in range(2))
assert first == second, (
    f"The same network and the same pictures: once {first:.1%}, then {second:.1%}. The network is still in training mode. "
    "Which call switches it to use?"
)
network.eval()
expected = (network(images).argmax(dim=1) == labels).float().mean().item()
assert first == expected, f"The accuracy should be {expected:.1%}, but is {first:.1%}."

# %% [markdown]
# ## 2. Repair: the network only guesses
#
# This function makes batches. The network learns nothing from them: the loss stays near 2.3. It is number 4 of the five
# mistakes. Find out why, and repair it.

# %% template
import torch


def shuffled_batches(images, labels, size=64):
    """Return a list of batches, pairs of images and labels, in random order."""
    images = images[torch.randperm(len(images))]
    labels = labels[torch.randperm(len(labels))]
    return list(zip(images.split(size), labels.split(size), strict=True))


# %% solution
import torch


def shuffled_batches(images, labels, size=64):
    """Return a list of batches, pairs of images and labels, in random order."""
    order = torch.randperm(len(images))
    images = images[order]
    labels = labels[order]
    return list(zip(images.split(size), labels.split(size), strict=True))


# %% wrong
import torch


def shuffled_batches(images, labels, size=64):
    """Return a list of batches, pairs of images and labels, in random order."""
    return list(zip(images.split(size), labels.split(size), strict=True))


# %% check
labels = torch.arange(100)
images = labels.float().view(100, 1, 1, 1)
batches = shuffled_batches(images, labels)
assert [len(batch) for batch, _ in batches] == [64, 36], (
    "100 pictures in batches of 64 are one of 64 and one of 36."
)
all_images, all_labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
assert not torch.equal(all_labels, labels), (
    "Now nothing is shuffled. The batches should be in random order."
)
assert torch.equal(all_images.flatten(), all_labels.float()), (
    "Pictures and labels are shuffled apart: most pictures have the label of another one. Use one random order for both."
)

# %% [markdown]
# ## 3. Repair: all five mistakes
#
# This training has all five mistakes of chapter 16. Repair both functions.
#
# The check names one mistake at a time. Try to find all five before you ask it.

# %% template
import torch
from torch.nn.functional import cross_entropy


def train_network(network, images, labels, epochs=4):
    """Train the network with SGD; return the loss at each step."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=10.0)
    losses = []
    for _ in range(epochs):
        images = images[torch.randperm(len(images))]
        for batch, targets in zip(images.split(64), labels.split(64), strict=True):
            probabilities = network(batch).softmax(dim=1)
            loss = cross_entropy(probabilities, targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def measure_accuracy(network, images, labels):
    """Return the share of correct answers."""
    with torch.no_grad():
        answers = network(images).argmax(dim=1)
    return (answers == labels).float().mean().item()


# %% solution
import torch
from torch.nn.functional import cross_entropy


def train_network(network, images, labels, epochs=4):
    """Train the network with SGD; return the loss at each step."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(epochs):
        order = torch.randperm(len(images))
        images, labels = images[order], labels[order]
        for batch, targets in zip(images.split(64), labels.split(64), strict=True):
            loss = cross_entropy(network(batch), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def measure_accuracy(network, images, labels):
    """Return the share of correct answers."""
    network.eval()
    with torch.no_grad():
        answers = network(images).argmax(dim=1)
    return (answers == labels).float().mean().item()


# %% wrong
import torch
from torch.nn.functional import cross_entropy


def train_network(network, images, labels, epochs=4):
    """Train the network with SGD; return the loss at each step."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses = []
    for _ in range(epochs):
        order = torch.randperm(len(images))
        images, labels = images[order], labels[order]
        for batch, targets in zip(images.split(64), labels.split(64), strict=True):
            loss = cross_entropy(network(batch), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def measure_accuracy(network, images, labels):
    """Return the share of correct answers."""
    network.eval()
    with torch.no_grad():
        answers = network(images).argmax(dim=1)
    return (answers == labels).float().mean().item()


# %% check
from torch import nn

from pytorch_intro.tour.practice import load_pictures, make_network

perfect = nn.Linear(10, 10, bias=False)  # always right, and sure
with torch.no_grad():
    perfect.weight.copy_(30 * torch.eye(10))
torch.manual_seed(0)
labels = torch.arange(640) % 10
batches = []
hook = perfect.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0]))
first = train_network(perfect, torch.eye(10)[labels], labels, epochs=1)[0]
assert not 1.4 < first < 1.6, (
    "The loss cannot fall below 1.46. That is the sign of softmax before cross_entropy, which contains softmax already."
)
assert first < 0.1, (
    "A network that is always right has a high loss here: so it is compared with the wrong labels. Shuffle pictures and "
    "labels in the same order."
)
assert not torch.equal(torch.cat(batches), torch.eye(10)[labels]), (
    "Now nothing is shuffled. Shuffle in each epoch, pictures and labels in the same order."
)

old_gradients = []
network = nn.Linear(10, 10)
network.weight.register_hook(
    lambda gradient: old_gradients.append(
        network.weight.grad is not None and bool(network.weight.grad.any())
    )
)
train_network(network, torch.eye(10)[labels], labels, epochs=1)
assert not any(old_gradients), (
    "Old gradients are still there when `backward()` adds new ones. Call `optimizer.zero_grad()` before."
)

images, labels, test_images, test_labels = load_pictures()
network = make_network()
losses = train_network(network, images, labels)
assert max(losses) < 10, (
    f"The loss rises up to {max(losses):,.0f}. The learning rate is far too high: divide it by 100."
)
assert sum(losses[-10:]) / 10 < 1.2, (
    f"The loss at the end is about {sum(losses[-10:]) / 10:.2f}; less than 1 is possible. Is the learning rate 0.1?"
)
network.train()
first, second = (measure_accuracy(network, test_images, test_labels) for _ in range(2))
assert first == second, (
    f"Two tests of the same network differ: {first:.1%} and {second:.1%}. `network.eval()` is missing before the test."
)
assert first > 0.6, f"The accuracy is {first:.1%}; more than 60% is possible."
