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
# **AdamW** is an optimizer. It finds a good size of the step for each parameter.
#
# A **schedule** changes the learning rate during the training. Here it first rises, and then it falls.

# %%
import torch
from torch.nn.functional import cross_entropy

from pytorch_intro.data.augment.basic import RandomHorizontalFlip
from pytorch_intro.data.dataset import ImageSubset
from pytorch_intro.data.ingest.fashion_mnist import FashionMNISTSample
from pytorch_intro.data.normalize import Normalize, channel_statistics
from pytorch_intro.models.cnn import CNN
from pytorch_intro.tour.sample import SAMPLE

torch.manual_seed(0)
device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
training, test = (FashionMNISTSample(str(SAMPLE), train) for train in (True, False))
normalize = Normalize(
    *channel_statistics(ImageSubset(training, torch.arange(len(training))))
)
network = CNN((1, 28, 28), num_classes=10, cosine_stem=True).to(device)
optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
flip = RandomHorizontalFlip(0.5)
epochs, losses = 6, []
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=epochs * 25)
for _ in range(epochs):
    for rows in torch.randperm(len(training)).split(64):
        images, targets = (part.to(device) for part in training.__getitems__(rows))
        loss = cross_entropy(network(normalize(flip(images))), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
assert losses[-1] < losses[0]
f"{len(losses)} steps: loss {losses[0]:.2f} before, {losses[-1]:.2f} at the end"
# At work: src/pytorch_intro/training/classifier.py: Classifier.training_step

# %% [markdown]
# Here is the loss at each step. It falls, but not smoothly: each batch has other pictures, and some are harder.
#
# Where does it start? A network that only guesses gives each of the ten classes a probability of 1/10. Its loss is 2.3,
# the logarithm of 10.

# %%
from pytorch_intro.tour.pictures import draw_losses

assert abs(torch.tensor(10.0).log() - 2.3) < 0.01
loss_goes_down = draw_losses(
    {"loss": losses}, "Training on 1,600 pictures", "step", guess=2.3
)
loss_goes_down

# %% [markdown]
# Now the test. It uses the 400 pictures that the network does not know yet. The **accuracy** is the share of correct
# answers. A guess would be correct for one picture of ten: 10%.
#
# `network.eval()` switches the network from training to use. Some layers behave differently then. Do not forget it.

# %%
network.eval()
images, targets = (part.to(device) for part in test.__getitems__(range(len(test))))
with torch.no_grad():
    probabilities = network(normalize(images)).softmax(dim=1)
right = (probabilities.argmax(dim=1) == targets).float().mean().item()
assert right > 0.75
f"{right:.1%} of {len(test)} pictures are classified correctly"
# At work: src/pytorch_intro/training/metrics.py: EpochMetrics

# %% [markdown]
# Which classes does the network mix up? A **confusion matrix** shows it. Each row is a true class. Each column is an
# answer of the network. The number is how many pictures have this class and this answer.
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
# What does it look like when a network overfits? The code below trains a network with only 100 pictures, for a long
# time.
#
# The loss of the training pictures falls to zero: the network learns them by heart. The loss of the test pictures falls
# at first. Then it rises again. That is the moment to stop.
#
# Do not choose this moment with the test set, or the test is no longer fair. Real projects have a third set of pictures for
# such decisions, the **validation set**.

# %%
from torch import nn

from pytorch_intro.tour.practice import load_pictures

train_images, train_labels, test_images, test_labels = load_pictures()
few_images, few_labels = train_images[:100], train_labels[:100]
torch.manual_seed(0)
small = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(small.parameters(), lr=0.003)
curves = {"100 training pictures": [], "400 test pictures": []}
for _ in range(120):
    with torch.no_grad():
        curves["400 test pictures"].append(
            cross_entropy(small(test_images), test_labels).item()
        )
    loss = cross_entropy(small(few_images), few_labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    curves["100 training pictures"].append(loss.item())
known, new = curves.values()
assert known[-1] < 0.05
assert min(new) + 0.1 < new[-1]
overfitting = draw_losses(curves, "Overfitting: good with known pictures only", "epoch")
overfitting
# At work: conf/callbacks/early_stopping.yaml: early_stopping

# %% [markdown]
# Five mistakes are very common. None of them gives an error message. You only see strange curves.
#
# In the picture below, the gray line is a correct training. The colored line is the same training with one mistake.
#
# 1. `zero_grad()` is missing. The gradients of all steps add up, so the steps become too large: the loss jumps.
# 2. softmax before cross-entropy. Cross-entropy already contains softmax. The loss can never fall below 1.46.
# 3. The learning rate is 100 times too high. The loss becomes huge.
# 4. The labels are not shuffled together with the pictures. The network can only guess: the loss stays at 2.3.
# 5. `eval()` is missing before the test. The loss looks right, but the accuracy is too low and differs each time.
#
# The exercises of this chapter have these mistakes for you to repair.

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
# What does the network look at? Cover a part of a picture with black. If the network is now less sure of its answer, it
# has looked at this part.
#
# The code does this with sixteen pictures, and with a black square of 8 x 8 pixels at many places.

# %%
shown = torch.arange(0, len(test), len(test) // 16)[:16]
pictures, answers = images[shown], probabilities[shown].argmax(dim=1)
sure = probabilities[shown, answers]
maps = torch.zeros(16, 1, 28, 28)
with torch.no_grad():
    for top in range(-6, 28, 2):
        for left in range(-6, 28, 2):
            part = (..., slice(max(0, top), top + 8), slice(max(0, left), left + 8))
            covered = pictures.clone()
            covered[part] = 0
            less = sure - network(normalize(covered)).softmax(dim=1)[range(16), answers]
            maps[part] += less.clamp(min=0).view(16, 1, 1, 1).cpu()
maps /= maps.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-9)
assert ((maps >= 0) & (maps <= 1)).all()
share = (maps > 0.5).float().mean()
f"{share:.0%} of the pixels matter at least half as much as the most important one"

# %% [markdown]
# Here is the result. Each picture has the network's answer, and how sure it is. Next to it, dark places are where the
# network has looked.

# %%
from pytorch_intro.analysis.plots import plot_image_grid, to_pil_images

levels = (255 * (1 - maps)).to(torch.uint8)
pairs = zip(to_pil_images(pictures), to_pil_images(levels), strict=True)
captions = []
for share, answer, target in zip(
    sure.tolist(), answers.tolist(), targets[shown].tolist(), strict=True
):
    truth = "right" if answer == target else f"is {test.classes[target]}"
    captions += [f"{test.classes[answer]} {share:.0%}\n{truth}", "looked at"]
sheet = [picture for pair in pairs for picture in pair]
what_it_sees = plot_image_grid(
    sheet, captions, "What a network sees, after seconds of training"
)
assert what_it_sees.size > (1000, 500)
what_it_sees
# At work: src/pytorch_intro/analysis/plots.py: plot_image_grid
