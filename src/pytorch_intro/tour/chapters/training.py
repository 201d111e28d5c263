"""A trained network and what it looks at.

This project's README: "Install and train" and "The run folder".
"""

# %%
# Everything together: this project's dataset and network, one step after the other, in some seconds. AdamW is an
# optimizer that finds for each parameter how far its steps go; the schedule lets the learning rate rise and then fall.
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
" → ".join(f"{loss:.2f}" for loss in losses)
# At work: src/pytorch_intro/training/classifier.py: Classifier.training_step

# %%
# The test uses pictures that were not trained on. With ten classes, a guess would be right once in ten.
network.eval()
images, targets = (part.to(device) for part in test.__getitems__(range(len(test))))
with torch.no_grad():
    probabilities = network(normalize(images)).softmax(dim=1)
right = (probabilities.argmax(dim=1) == targets).float().mean().item()
assert right > 0.75
f"{right:.1%} of {len(test)} pictures are classified correctly"
# At work: src/pytorch_intro/training/metrics.py: EpochMetrics

# %%
# What does it look at? Cover a part of a picture with black: where the probability of the answer
# falls, the network has looked. This is done with each part, 8 x 8 dots, of sixteen pictures.
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
f"{(maps > 0.5).float().mean():.0%} of the dots matter at least half as much as the first one"

# %%
# The result as a plot: each picture with the network's answer and how sure it is; next to it, the darker the
# more it matters, where it has looked.
from PIL import Image

from pytorch_intro.analysis.plots import plot_image_grid, save, to_pil_images
from pytorch_intro.config.paths import PROJECT

levels = (255 * (1 - maps)).to(torch.uint8)
pairs = zip(to_pil_images(pictures), to_pil_images(levels), strict=True)
captions = []
for share, answer, target in zip(
    sure.tolist(), answers.tolist(), targets[shown].tolist(), strict=True
):
    truth = "right" if answer == target else f"is {test.classes[target]}"
    captions += [f"{test.classes[answer]} {share:.0%}\n{truth}", "looked at"]
file = PROJECT / "outputs" / "tour" / "what_it_sees.png"
file.parent.mkdir(parents=True, exist_ok=True)
sheet = [picture for pair in pairs for picture in pair]
save(
    plot_image_grid(sheet, captions, "What a network sees, after seconds of training"),
    file,
)
with Image.open(file) as plot:
    assert plot.size > (1000, 500)
f"plot: {file}"
# At work: src/pytorch_intro/analysis/plots.py: plot_image_grid

# %%
# From here: `python src/train.py` trains on all 60,000 pictures, and the README has the rest.
from importlib.util import find_spec

from pytorch_intro.config.paths import command_line

train = " ".join(command_line("train"))
assert find_spec("pytorch_intro.commands.train") is not None
"\n".join([train, f"{train} --help", "tensorboard --logdir outputs"])
