# %% [markdown]
# # 16. Train a network, and see what it looks at
#
# To read on: this project's README, "Install and train" and "The run folder".

# %% [markdown]
# Now everything together. The code below trains this project's network with 1,600 pictures. It takes a few seconds.
#
# Compare it with chapter 12: the same three lines are in the middle. Around them are two loops, one over the epochs and
# one over the batches.
#
# **AdamW** is an optimizer. It adapts the size of the step for each parameter. You still give a learning rate, which all
# steps are multiplied by.
#
# A **schedule** changes the learning rate during the training. Often it first raises it, and then lowers it.
#
# In the loop, this is one more line: `schedule.step()`.

# %%
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from pytorch_intro.data.augment.basic import RandomHorizontalFlip
from pytorch_intro.data.dataset import ImageSubset, identity_collate
from pytorch_intro.data.ingest.fashion_mnist import FashionMNISTSample
from pytorch_intro.data.normalize import Normalize, channel_statistics
from pytorch_intro.models.cnn import CNN
from pytorch_intro.tour.sample import SAMPLE

torch.manual_seed(0)
device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
training, test = (FashionMNISTSample(str(SAMPLE), train) for train in (True, False))
# The average and the standard deviation of all pixels of the training set.
normalize = Normalize(
    *channel_statistics(ImageSubset(training, torch.arange(len(training))))
)
# cosine_stem: the weights of the first convolution are given, not learned.
network = CNN((1, 28, 28), num_classes=10, cosine_stem=True).to(device)
optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
flip = RandomHorizontalFlip(0.5)
epochs, losses = 3, []
# 1,600 pictures in batches of 64 are 25 batches in each epoch.
# The dataset returns whole batches (chapter 8).
loader = DataLoader(training, batch_size=64, shuffle=True, collate_fn=identity_collate)
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, 0.01, total_steps=epochs * len(loader)
)
network.train()  # a new network is in training mode: here, this line changes nothing
for _ in range(epochs):
    for images, targets in loader:
        images, targets = images.to(device), targets.to(device)
        loss = cross_entropy(network(normalize(flip(images))), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
assert images.max() == 255  # bytes, and this project's Normalize also divides by 255
assert -1 < normalize(images).min() < 0 < normalize(images).max() < 3
assert losses[-1] < losses[0]
f"{len(losses)} steps: loss {losses[0]:.2f} before, {losses[-1]:.2f} at the end"
# At work: src/pytorch_intro/training/classifier.py: Classifier.training_step

# %% [markdown]
# Here is the loss at each step. It falls, but not smoothly: each batch has other pictures, and some are harder.
#
# The dotted line is a guess: it gives each of the ten classes the probability 1/10. Its loss is 2.3, the natural logarithm
# of 10. With three classes, it would be 1.1, the natural logarithm of 3.
#
# A new network can start a little above this line. It does not know anything yet, and by chance it prefers some wrong
# answers.

# %%
import math

from pytorch_intro.tour.pictures import draw_losses

assert abs(math.log(10) - 2.3) < 0.01
assert abs(math.log(3) - 1.1) < 0.01
guess = cross_entropy(torch.zeros(1, 10), torch.tensor([0]))  # equal logits
assert abs(guess - math.log(10)) < 1e-5
loss_goes_down = draw_losses(
    {"loss": losses}, "Training on 1,600 pictures", "step", guess=2.3
)
loss_goes_down

# %% [markdown]
# The **accuracy** is the share of correct answers. With ten classes, a guess is correct for one picture of ten: 10%.
#
# Now the test. It uses the 400 pictures that the network does not know yet.
#
# First, `network.eval()` switches the network to eval mode (chapter 11). This network has BatchNorm layers, so do not forget
# it. If you want to train on after the test, call `network.train()` first.

# %%
assert any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
network.eval()
test_loader = DataLoader(test, batch_size=len(test), collate_fn=identity_collate)
images, targets = (part.to(device) for part in next(iter(test_loader)))
with torch.no_grad():
    probabilities = network(normalize(images)).softmax(dim=1)
right = (probabilities.argmax(dim=1) == targets).float().mean().item()
assert right > 0.75
f"{right:.1%} of {len(test)} pictures are classified correctly"
# At work: src/pytorch_intro/training/metrics.py: EpochMetrics

# %% [markdown]
# Which classes does the network mix up?
#
# A **confusion matrix** shows which classes a network mixes up. Each row is a true class. Each column is what the network
# has predicted. The number is how many pictures have this true class and this prediction.
#
# Read it like this. The numbers from the top left to the bottom right are correct answers. All others are mistakes. The
# sentence below reads the most frequent mistake aloud.

# %%
from pytorch_intro.analysis.plots import plot_confusion

answers = probabilities.argmax(dim=1)
matrix = torch.bincount(targets * 10 + answers, minlength=100).view(10, 10).cpu()
assert matrix.sum() == 400
assert matrix.trace() == (answers == targets).sum()
confusion_matrix = plot_confusion(matrix, test.classes, "test pictures", dpi=100)
confusion_matrix

# %%
mistakes = matrix.clone().fill_diagonal_(0)
true_class, answer = divmod(mistakes.argmax().item(), 10)
assert mistakes[true_class, answer] == mistakes.max() > 0
(
    f"Of {matrix[true_class].sum()} pictures of the class {test.classes[true_class]}, "
    f"the network calls {matrix[true_class, answer]} {test.classes[answer]}."
)
# At work: src/pytorch_intro/analysis/plots.py: plot_confusion

# %% [markdown]
# What does overfitting look like? The code below trains a network with only 100 pictures, for a long time.
#
# The loss of the training pictures falls to zero: the network learns them by heart. The loss of new pictures falls at
# first. Then it rises again. Stop at the lowest point.
#
# With **early stopping**, the training ends when the loss of new pictures no longer falls. Then you use the network from the
# lowest point. You can also take the epoch with the best validation accuracy. This project's command does that.
#
# Which new pictures? Not those of the test set, or the test is no longer fair: then you have chosen the moment that is
# best for just these pictures. Use the validation set (chapter 1).
#
# You make a validation set yourself. Take some pictures out of the training set, and do not train with them. One of ten is
# usual if you have thousands. Here we take 400 of 1,600, because 160 would be few.

# %%
from torch import nn

from pytorch_intro.tour.practice import load_pictures

# All pictures, as floats and normalized as in chapter 1.
all_images, all_labels, test_images, test_labels = load_pictures()
order = torch.randperm(1600, generator=torch.Generator().manual_seed(0))
for_validation, for_training = order[:400], order[400:]
val_images, val_labels = all_images[for_validation], all_labels[for_validation]
few_images, few_labels = all_images[for_training[:100]], all_labels[for_training[:100]]
assert not set(for_validation.tolist()) & set(for_training.tolist())

torch.manual_seed(0)
small = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(small.parameters(), lr=0.003)
curves = {"100 training pictures": [], "400 validation pictures": []}
for _ in range(120):
    small.eval()
    with torch.no_grad():
        loss = cross_entropy(small(val_images), val_labels)
    curves["400 validation pictures"].append(loss.item())
    small.train()
    loss = cross_entropy(small(few_images), few_labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    curves["100 training pictures"].append(loss.item())
known, new = curves.values()
assert known[-1] < 0.05
assert min(new) + 0.1 < new[-1]
print(f"the validation loss is lowest after {new.index(min(new))} epochs")
overfitting = draw_losses(curves, "Overfitting: good with known pictures only", "epoch")
overfitting
# At work: conf/callbacks/early_stopping.yaml: early_stopping

# %% [markdown]
# So the accuracy of pictures that the network knows does not show how good it is. The network below is perfect with them.


# %%
def accuracy(network, images, labels):
    network.eval()
    with torch.no_grad():
        answers = network(images).argmax(dim=1)
    return (answers == labels).float().mean().item()


with_known, with_new = (
    accuracy(small, few_images, few_labels),
    accuracy(small, val_images, val_labels),
)
assert with_known == 1
assert with_new < 0.85
f"{with_known:.0%} of the pictures that it knows, {with_new:.0%} of new ones"

# %% [markdown]
# Five mistakes are very common. None of them gives an error message. You only see strange curves.
#
# In the picture below, the gray line is a correct training. The colored line is the same training with one mistake.
#
# 1. `zero_grad()` is missing. The gradients of all steps add up, so the steps become too large: the loss rises or jumps.
# 2. softmax before cross-entropy. `cross_entropy` already contains softmax. The loss can never fall below 1.46 (chapter 12).
# 3. The learning rate is 100 times too high. The loss becomes huge.
# 4. Pictures and labels are shuffled apart, so they no longer belong together. The network can only guess: the loss stays
# near 2.3.
# 5. `eval()` is missing before the test. The loss looks right, but dropout still sets numbers to zero. So the accuracy
# is too low, and differs each time.
#
# We look at the test after each epoch only to show the mistakes. To decide something, use the validation set.
#
# The exercises of chapters 12 and 16 have these mistakes for you to repair.

# %%
from pytorch_intro.tour.pictures import draw_mistakes
from pytorch_intro.tour.practice import MISTAKES, train_with

correct = train_with(None)
broken = {mistake: train_with(mistake) for mistake in MISTAKES}
assert correct.losses[-1] < 1 < min(broken["softmax before cross-entropy"].losses)
assert min(broken["labels not shuffled with the pictures"].losses) > 2
assert max(broken["learning rate 100 times too high"].losses) > 10
assert sum(broken["no zero_grad"].losses) > 1.5 * sum(correct.losses)
assert broken["no eval"].losses == correct.losses
assert sum(broken["no eval"].accuracies) < sum(correct.accuracies)
five_mistakes = draw_mistakes(correct, broken)
five_mistakes

# %% [markdown]
# Your own program does not work? Look for what you see in this table.
#
# | you see | perhaps | chapter |
# |---|---|---|
# | You do not know where to look. | Train with one batch only, 100 steps. If its loss does not come near 0, the mistake is in the network or in the lines of the step. | 12 |
# | The loss stays near 2.3 and the accuracy near 10% (ten classes): a guess. | Pictures and labels do not belong together: shuffled apart, or wrong labels. | 16, 17 |
# | A guess (loss near 2.3) | Nothing changes in the steps: look for "exactly the same" in this table. | 12, 18 |
# | A guess (loss near 2.3) | The learning rate is far too small. Or it is far too large: the loss was huge in the first steps, and then it stays near 2.3. | 12 |
# | A guess (loss near 2.3) | You have stopped too early: after a few steps, a network knows little. | 12, 16 |
# | The accuracy is exactly the same after each epoch. | `zero_grad()` is between `backward()` and `step()`, or `step()` is missing or is between `zero_grad()` and `backward()`. | 12 |
# | The accuracy is exactly the same after each epoch. | The optimizer has other parameters than the network, for example those of a layer that was replaced later. | 12, 18 |
# | The accuracy is exactly the same after each epoch. | No parameter of the optimizer has `requires_grad=True`. | 18 |
# | The loss of the last batch is low, but the test is bad from the first epoch. | The samples are sorted by class and not shuffled. The network forgets the first classes while it learns the last ones. | 9 |
# | Training and test are both bad, and no longer become better. | The network is too small. Or the learning rate is too small or too large. | 11, 12 |
# | Training good. Test good at first, then worse. | Overfitting. | 9, 16 |
# | Training good, test bad from the first epoch. | The test pictures are prepared in another way, for example not normalized. Or `eval()` is missing. | 10, 11, 20 |
# | Test nearly perfect, use bad. | Test pictures are in the training set, too. | 17 |
# | The loss jumps or becomes huge. | The learning rate is too large, or `zero_grad()` is missing. | 12 |
# | The loss stays above 1.46 (ten classes). | softmax before `cross_entropy`. | 12 |
# | The loss is good, the test is worse. With dropout, it differs each time. | `eval()` is missing. | 11 |
#
# Here is the proof for three of them. "Nothing changes" has `zero_grad()` at the wrong place.


# %%
def two_epochs(is_sorted=False, is_wrong_order=False):
    """Train a small network; return it, the last loss, and the accuracy after each epoch."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    accuracies = []
    for _ in range(2):
        order = all_labels.argsort() if is_sorted else torch.randperm(1600)
        network.train()
        for rows in order.split(64):
            loss = cross_entropy(network(all_images[rows]), all_labels[rows])
            optimizer.zero_grad()
            loss.backward()
            if is_wrong_order:
                optimizer.zero_grad()
            optimizer.step()
        accuracies.append(accuracy(network, test_images, test_labels))
    return network, loss.item(), accuracies


good, good_loss, good_accuracies = two_epochs()
_, guess_loss, stuck = two_epochs(is_wrong_order=True)
_, sorted_loss, bad = two_epochs(is_sorted=True)
# Back to numbers from 0 to 255, as in the files.
unprepared = accuracy(good, (test_images * 0.353 + 0.286) * 255, test_labels)
assert good_accuracies[-1] > 0.65
assert stuck[0] == stuck[1] < 0.2
assert abs(guess_loss - 2.3) < 0.2
assert sorted_loss < good_loss
assert bad[-1] < 0.5
assert unprepared < good_accuracies[-1] - 0.05
print(f"correct: last loss {good_loss:.2f}, test {good_accuracies[-1]:.0%}")
print(
    f"nothing changes: last loss {guess_loss:.2f}, test {stuck[0]:.1%}, then {stuck[1]:.1%}"
)
print(f"sorted by class: last loss {sorted_loss:.2f}, test {bad[-1]:.0%}")
print(f"test pictures not normalized: test {unprepared:.0%}")

# %% [markdown]
# What does the network look at? Cover a part of a picture with black. If the network is now less sure of its answer, it
# has looked at this part.
#
# The background of the pictures is black already. So this cannot show whether the network looks at the background.
#
# The code does this with sixteen pictures, and with a black square of 9 x 9 pixels at many places.

# %%
shown = torch.arange(0, len(test), len(test) // 16)[:16]
pictures, answers = images[shown], probabilities[shown].argmax(dim=1)
sure = probabilities[shown, answers]
maps = torch.zeros(16, 1, 28, 28)
with torch.no_grad():
    for top in range(-6, 28, 3):
        for left in range(-6, 28, 3):
            part = (..., slice(max(0, top), top + 9), slice(max(0, left), left + 9))
            covered = pictures.clone()
            covered[part] = 0
            less = sure - network(normalize(covered)).softmax(dim=1)[range(16), answers]
            maps[part] += less.clamp(min=0).view(16, 1, 1, 1).cpu()
maps /= maps.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-9)
assert ((maps >= 0) & (maps <= 1)).all()
share = (maps > 0.5).float().mean()
f"only {share:.0%} of the pixels matter much: at least half as much as the most important one"

# %% [markdown]
# Here is the result. Each picture has the network's answer, and how sure it is. Next to it, dark places are where the
# network has looked. Black is the most important place of this picture: each picture has a scale of its own.

# %%
from pytorch_intro.analysis.plots import plot_image_grid, to_pil_images

levels = (255 * (1 - maps)).to(torch.uint8)
pairs = zip(to_pil_images(pictures), to_pil_images(levels), strict=True)
captions = []
for probability, answer, target in zip(
    sure.tolist(), answers.tolist(), targets[shown].tolist(), strict=True
):
    truth = "right" if answer == target else f"is {test.classes[target]}"
    captions += [f"{test.classes[answer]} {probability:.0%}\n{truth}", "looked at"]
sheet = [picture for pair in pairs for picture in pair]
what_it_sees = plot_image_grid(
    sheet, captions, "What a network sees, after seconds of training"
)
assert what_it_sees.size > (1000, 500)
what_it_sees
# At work: src/pytorch_intro/analysis/plots.py: plot_image_grid
