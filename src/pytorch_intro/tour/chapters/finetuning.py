# %% [markdown]
# # 18. Fine-tuning on your own photographs
#
# To read on: this project's docs/photos.md. PyTorch, Transfer Learning for Computer Vision Tutorial.

# %% [markdown]
# A network needs thousands of pictures to learn from. You have 36. What now?
#
# Start with a network that has already learned from other pictures. It is called a **pretrained** network. It knows edges,
# corners and shapes. These are useful for your pictures, too. To train it further with your pictures is called
# **fine-tuning**.
#
# First, we need such a network. The code below trains one with the clothes. It uses the command
# `python src/train.py data=sample trainer.max_epochs=3`. The command writes everything that it learns into one folder. Such a
# training with its folder is called a **run**.

# %%
import json

from pytorch_intro.tour.practice import run_on_clothes

clothes = run_on_clothes()
result = json.loads((clothes / "result.json").read_text())
assert result["test/accuracy"] > 0.6
f"{result['parameters']:,} parameters, {result['test/accuracy']:.0%} of the clothes are correct"
# At work: src/pytorch_intro/commands/train.py: train

# %% [markdown]
# Now your own photographs: twelve cups, twelve keys and twelve leaves. There are 20 more of each for the test. As in chapter
# 17, the code makes them.
#
# The folders have the names train and test. Then the command knows which pictures it may learn from.

# %%
from pathlib import Path

from PIL import Image

from pytorch_intro.analysis.plots import plot_image_grid
from pytorch_intro.tour.photos import DRAWINGS, make_photos

photos = Path(clothes.parent, "photos")
make_photos(photos / "train", dict.fromkeys(DRAWINGS, 12), seed=1)
make_photos(photos / "test", dict.fromkeys(DRAWINGS, 20), seed=2)
files = sorted((photos / "train").rglob("*.png"))
assert len(files) == 36
my_photographs = plot_image_grid(
    [Image.open(file).convert("L") for file in files],
    [file.parent.name for file in files],
    columns=12,
)
my_photographs
# At work: src/pytorch_intro/data/ingest/image_folder.py: ImageFolder

# %% [markdown]
# Which part of the network can stay? A network for classes has two parts. The **head** is its last layer. It turns what the
# other layers have found into one logit for each class. All other layers are the **body**.
#
# The head of this network has ten outputs, for ten kinds of clothes. We need three. So the body stays, and we put a new head
# on it. The new head starts with random parameters.

# %%
# Needs: pytorch_intro.inference
import copy

import torch
from torch import nn

from pytorch_intro import load_run

loaded = load_run(clothes)
pretrained = loaded.network.network  # without the code around it that trains


def head_of(network):
    return [part for part in network.modules() if isinstance(part, nn.Linear)][-1]


def with_new_head(network, classes):
    network = copy.deepcopy(network)
    name = next(name for name, part in network.named_modules() if part is head_of(network))
    network.set_submodule(name, nn.Linear(head_of(network).in_features, classes))
    return network


network = with_new_head(pretrained, 3)
sizes = [
    sum(parameter.numel() for parameter in part.parameters())
    for part in (network, head_of(network))
]
assert head_of(network).out_features == 3
assert sizes[1] < sizes[0] / 50
f"{sizes[0]:,} parameters, only {sizes[1]} of them in the head"
# At work: src/pytorch_intro/training/weights.py: load_state
# At work: conf/model/cnn.yaml: new_head

# %% [markdown]
# The code below trains three networks with the 36 photographs. All see them twelve times.
#
# 1. "From scratch" starts with random parameters everywhere.
# 2. "Head only" keeps the body as it is: `requires_grad_(False)` means that these parameters do not change. They are
# **frozen**.
# 3. "All layers" changes the head and the body.

# %%
# Needs: pytorch_intro.inference
from torch.nn.functional import cross_entropy
from torchvision.datasets import ImageFolder

parts = [ImageFolder(photos / name, loaded.transforms) for name in ("train", "test")]
(images, labels), (test_images, test_labels) = (
    (torch.stack([image for image, _ in part]), torch.tensor(part.targets))
    for part in parts
)


def fit(network, parameters, rate, is_frozen=False):
    optimizer = torch.optim.AdamW(parameters, lr=rate)
    accuracies = []
    for _ in range(12):
        network.train(not is_frozen)  # a frozen body stays in eval mode
        for rows in torch.randperm(36).split(12):
            loss = cross_entropy(network(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            answers = network.eval()(test_images).argmax(dim=1)
        accuracies.append((answers == test_labels).float().mean().item())
    return accuracies


torch.manual_seed(0)
scratch = with_new_head(pretrained, 3)
for part in scratch.modules():
    if hasattr(part, "reset_parameters"):
        part.reset_parameters()
frozen = with_new_head(pretrained, 3).requires_grad_(False)
head_of(frozen).requires_grad_(True)
before = copy.deepcopy(frozen)
everything = with_new_head(pretrained, 3)
curves = {
    "from scratch": fit(scratch, scratch.parameters(), 0.003),
    "head only": fit(frozen, head_of(frozen).parameters(), 0.03, is_frozen=True),
    "all layers": fit(everything, everything.parameters(), 0.003),
}
same = [
    torch.equal(old, new)
    for old, new in zip(before.parameters(), frozen.parameters(), strict=True)
]
assert same == [True] * (len(same) - 2) + [False] * 2  # weight and bias of the head
assert sum(curves["all layers"]) > sum(curves["from scratch"])
assert curves["all layers"][-1] > curves["head only"][-1]
", ".join(f"{name} {values[-1]:.0%}" for name, values in curves.items())
# At work: src/pytorch_intro/pretrained/finetuning.py: Finetuning

# %% [markdown]
# Here is the accuracy after each epoch. With all layers, the pretrained network needs fewer epochs than the one from scratch.
# The one from scratch can reach it later. With a large network and real photographs, that takes days, and thousands of
# pictures.
#
# "Head only" stays behind. This body knows only clothes, and cups are different. It is better if the pretrained network has
# learned from pictures like yours, or from pictures of almost everything.

# %%
# Needs: pytorch_intro.inference
from pytorch_intro.tour.pictures import draw_accuracies

finetuning_pays = draw_accuracies(curves, "36 photographs: accuracy in the test", "epoch")
finetuning_pays

# %% [markdown]
# This project has three ways to do it. They are for the large networks of timm and torchvision, which have learned from
# more than a million photographs. The command is `python src/train.py experiment=finetune data.root=FOLDER`.
#
# 1. `finetune=head` trains the head only. What the frozen body finds in a picture never changes. So it is computed once, and
# the head learns from that. This takes seconds, even without a GPU.
# 2. `finetune=gradual` first trains the head like this, and then all layers. The first layers get the smallest learning rate,
# because edges are the same in all pictures.
# 3. `finetune=full` trains all layers from the start.
#
# Why not always all layers? A new head is random, so its first gradients are wrong. They would damage the good body. With few
# pictures, all layers also overfit more easily.

# %%
# Needs: pytorch_intro.pretrained
from pytorch_intro import compose

settings = compose(["finetune=gradual"]).finetune
assert settings.mode == "gradual"
assert settings.layer_decay < 1
f"gradual: each layer has {settings.layer_decay} times the learning rate of the layer after it"
# At work: conf/finetune/gradual.yaml: layer_decay
# At work: conf/experiment/finetune.yaml: name

# %% [markdown]
# For a network of your own, give the command the folder of a run. `model.weights` is where the parameters come from.
# `model.new_head` replaces the head.
#
# The command finds out by itself that the pictures have three classes, and how the run has prepared its pictures. It does the
# same with yours.

# %%
# Slow: a training of its own
from pytorch_intro.tour.practice import ONLY_THE_NETWORK, run_command

settings = [
    "data=folder",
    f"data.root={photos}",
    "data.val_fraction=0",
    "data.batch_size=12",
    f"model.weights={clothes}",
    "model.new_head=true",
    "optimizer=adamw",
    "optimizer.lr=0.003",
    "trainer.max_epochs=10",
    "name=mine",
]
run_command("train", [*settings, f"outputs={photos.parent}", *ONLY_THE_NETWORK])
mine = json.loads((photos.parent / "mine" / "result.json").read_text())
assert mine["test/accuracy"] > 0.5  # a guess would be right for one of three
f"{mine['test/accuracy']:.0%} of the 60 test pictures are correct"
# At work: src/pytorch_intro/training/weights.py: run_input_settings
