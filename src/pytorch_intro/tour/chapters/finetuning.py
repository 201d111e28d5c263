# %% [markdown]
# # 18. Fine-tuning on your own photographs
#
# To read on: this project's docs/photos.md. PyTorch, Transfer Learning for Computer Vision Tutorial.

# %% [markdown]
# A network usually needs thousands of pictures to learn from. You have 36. What now?
#
# A **pretrained** network has already learned from other pictures. It knows edges, corners and shapes, which are useful
# for your pictures, too.
#
# In **fine-tuning**, you take a pretrained network and train it further with your own pictures. Another name for this is
# **transfer learning**.
#
# A **run** is a training by this project's command `python src/train.py`. Everything that it learns is in one folder,
# the run folder.
#
# First, we need a pretrained network. The code below makes a run with the clothes:
# `python src/train.py data=sample trainer.max_epochs=2`.

# %%
import json

from pytorch_intro.tour.practice import run_on_clothes

clothes = run_on_clothes()
result = json.loads((clothes / "result.json").read_text())
assert result["test/accuracy"] > 0.6
# The command makes a larger network than chapter 11, but of the same kind.
f"{result['parameters']:,} parameters, {result['test/accuracy']:.0%} of the clothes are correct"
# At work: src/pytorch_intro/commands/train.py: train

# %% [markdown]
# Now your own photographs: twelve cups, twelve keys and twelve leaves. As in chapter 17, the code makes them.
#
# There are 20 more of each for the validation and 20 for the test. With real photographs, you would not have so many.
# Here we want to measure exactly.
#
# The folders have the names train, val and test. Then the command knows which pictures it may learn from.

# %%
from pathlib import Path

from PIL import Image

from pytorch_intro.analysis.plots import plot_image_grid
from pytorch_intro.tour.photos import DRAWINGS, make_photos

photos = Path(clothes.parent, "photos")
make_photos(photos / "train", dict.fromkeys(DRAWINGS, 12), seed=1)
make_photos(photos / "val", dict.fromkeys(DRAWINGS, 20), seed=3)
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
# A network for classes has two parts. Which one can stay?
#
# The **head** is the last layer of a network for classes. It turns what the other layers have found into one logit for each
# class.
#
# The **body** of such a network is all layers but the head.
#
# The head of this network has ten outputs, for ten kinds of clothes. We need three. So the body stays, and a new head
# replaces the old one. The new head starts with random parameters.
#
# First make the new head, and then the optimizer. An optimizer changes only the parameters that it got when it was created.
# If these are those of the old head, the new head never learns, and you get no error message.

# %%
# Needs: pytorch_intro.inference
import copy

import torch
from torch import nn

from pytorch_intro import load_run

loaded = load_run(clothes)
pretrained = loaded.network.network  # without the code around it that trains


# The last linear layer. In an nn.Sequential, it would be network[-1].
def head_of(network):
    return [part for part in network.modules() if isinstance(part, nn.Linear)][-1]


def with_new_head(network, classes):
    network = copy.deepcopy(network)
    name = next(name for name, part in network.named_modules() if part is head_of(network))
    # Put a new layer at the place of the old one.
    network.set_submodule(name, nn.Linear(head_of(network).in_features, classes))
    return network


network = with_new_head(pretrained, 3)
sizes = [
    sum(block.numel() for block in part.parameters())
    for part in (network, head_of(network))
]
assert head_of(network).out_features == 3
assert sizes[1] < sizes[0] / 50

# The wrong order: the optimizer gets the old head, which is replaced then.
wrong = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 10))
optimizer = torch.optim.SGD(wrong[-1].parameters(), lr=0.1)
wrong[-1] = nn.Linear(8, 3)
new_head = wrong[-1].weight.clone()
wrong(torch.rand(5, 4)).sum().backward()
optimizer.step()
assert torch.equal(wrong[-1].weight, new_head)  # it has not learned
f"{sizes[0]:,} parameters, only {sizes[1]} of them in the head"
# At work: src/pytorch_intro/training/weights.py: load_state
# At work: conf/model/cnn.yaml: new_head

# %% [markdown]
# A **frozen** parameter does not change in the training. `network.requires_grad_(False)` freezes all parameters that a
# network has at this moment: they get no gradients (chapter 12). A layer that you add later is new, and so it is not
# frozen.
#
# The code below trains three networks with the 36 photographs. Each network sees each photograph twelve times: twelve
# epochs.
#
# 1. "From scratch" starts with random parameters everywhere.
# 2. "Head only" freezes the body. It also stays in eval mode: then its BatchNorm layers keep the averages that they have
# stored.
# 3. "All layers" changes the head and the body.
#
# We compare them with the validation set, because we will choose one of them.

# %%
# Needs: pytorch_intro.inference
from torch.nn.functional import cross_entropy
from torchvision.datasets import ImageFolder

parts = [ImageFolder(photos / name, loaded.transforms) for name in ("train", "val", "test")]
(images, labels), (val_images, val_labels), (test_images, test_labels) = (
    (torch.stack([image for image, _ in part]), torch.tensor(part.targets))
    for part in parts
)


def accuracy(network, images, labels):
    network.eval()
    with torch.no_grad():
        answers = network(images).argmax(dim=1)
    return (answers == labels).float().mean().item()


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
        accuracies.append(accuracy(network, val_images, val_labels))
    return accuracies


torch.manual_seed(0)
scratch = with_new_head(pretrained, 3)
for part in scratch.modules():
    if hasattr(part, "reset_parameters"):
        part.reset_parameters()
frozen = with_new_head(pretrained, 3).requires_grad_(False)
head_of(frozen).requires_grad_(True)
before = copy.deepcopy(frozen)
added = nn.Sequential(nn.Linear(2, 2)).requires_grad_(False).append(nn.Linear(2, 2))
assert [part.weight.requires_grad for part in added] == [False, True]  # a new layer
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
# Here is the accuracy after each epoch. With all layers, the pretrained network needs fewer epochs than the one from
# scratch. The one from scratch can reach it later. With a large network and real photographs, that takes days, and
# thousands of pictures.
#
# "Head only" is behind "all layers" here. This body knows only ten kinds of clothes, and cups are different. So the body has
# to change.

# %%
# Needs: pytorch_intro.inference
from pytorch_intro.tour.pictures import draw_accuracies

finetuning_pays = draw_accuracies(
    curves, "36 photographs: accuracy in the validation", "epoch"
)
finetuning_pays

# %% [markdown]
# We choose "all layers", because it is the best in the validation. Now the test, once, with the chosen network only.

# %%
# Needs: pytorch_intro.inference
tested = accuracy(everything, test_images, test_labels)
assert max(curves, key=lambda name: curves[name][-1]) == "all layers"
assert tested > 0.6
f"{tested:.0%} of the {len(test_labels)} test pictures are correct"

# %% [markdown]
# For real photographs, take a body that knows photographs.
#
# **timm** is a library of pretrained networks for pictures. Most of them have learned from more than a million photographs.
# torchvision has some, too.
#
# This project can fine-tune them in three ways:
#
# 1. `finetune=head` trains the head only. What the frozen body finds in a picture never changes. So it is computed once, and
# the head learns from that. This takes seconds, even without a GPU.
# 2. `finetune=gradual` first trains the head like this, and then all layers. The first layers get the smallest learning
# rate, because edges are the same in all pictures.
# 3. `finetune=full` trains all layers from the start. A new head is random, so its first gradients are wrong. They can
# damage a good body.
#
# Why did "all layers" win in our experiment? That body knew only clothes, so it had to change anyway. A body that knows
# photographs has more to lose.
#
# With such a body, all layers are hardly better than the head if you have few pictures. We have measured it with 113 real
# photographs of six classes (docs/results.md). The head only: 82% correct, in 14 seconds. Gradual: 83%, in 72 seconds. One
# percent is one picture, so this is no difference.

# %%
# Needs: pytorch_intro.pretrained
from pytorch_intro import compose

settings = compose(["finetune=gradual"]).finetune
assert settings.mode == "gradual"
assert settings.layer_decay < 1
assert round(1 / 113, 2) == 0.01
f"gradual: each layer has {settings.layer_decay} times the learning rate of the layer after it"
# At work: conf/finetune/gradual.yaml: layer_decay
# At work: conf/experiment/finetune.yaml: name

# %% [markdown]
# So what do you do with 50 photographs?
#
# 1. Look at them first (chapter 17): copies, broken files, wrong labels.
# 2. Make one folder for each class, all in one folder. We call it FOLDER.
# 3. Install timm, once: `pip install -r requirements-photos.txt`.
# 4. Train the head of a network that knows photographs:
# `python src/train.py experiment=finetune finetune=head data.root=FOLDER data.test_fraction=0.2`. The weights are downloaded
# once.
# 5. Try `finetune=gradual`, too, if your pictures do not look like photographs, or if you have hundreds for each class.
# Choose with the validation set.
#
# The command divides the pictures by chance, so that each class is in each part. With `data.test_fraction=0.2`, ten of the
# 50 are for the test. `data.val_fraction` is 0.2 here, so eight of the other 40 are for the validation. 32 are left to learn
# from.
#
# If several photographs show the same thing, they belong in the same part (chapter 17). Then make the folders train, val and
# test yourself.
#
# With ten test pictures, one picture is 10%. That is not exact. There is a better way, if you can wait.
#
# In a **cross-validation**, you divide the pictures into five parts and train five times. Each time, another part is the
# validation set. At the end, each picture that is not for the test was used for validation once. Write the mean of the five
# accuracies.
#
# This is the command:
# `python src/train.py -m experiment=finetune finetune=head data.root=FOLDER data.test_fraction=0.2 data.num_folds=5 data.fold=0,1,2,3,4`.
# `-m` means: train once with each value of `data.fold`. The same ten pictures are for the test each time.

# %%
# Needs: pytorch_intro.pretrained
settings = [
    "experiment=finetune",
    "finetune=head",
    f"data.root={photos}",
    "data.test_fraction=0.2",
]
config = compose(settings)
assert (config.finetune.mode, config.model.new_head) == ("head", True)
for_test = round(50 * config.data.test_fraction)
for_validation = round((50 - for_test) * config.data.val_fraction)
for_training = 50 - for_test - for_validation
assert (for_test, for_validation, for_training) == (10, 8, 32)
assert compose([*settings, "data.num_folds=5", "data.fold=4"]).data.num_folds == 5
f"{for_test} for the test, {for_validation} for the validation, {for_training} to learn from"
# At work: src/pytorch_intro/data/splits.py: stratified_split
# At work: src/pytorch_intro/data/splits.py: stratified_fold

# %% [markdown]
# For a network of your own, give the command the folder of a run. `model.weights` is where the parameters come from.
# `model.new_head` replaces the head.
#
# The command finds out by itself that the pictures have three classes. It also finds out how the run has prepared its
# pictures, and prepares yours in the same way.

# %%
# Slow: a training of its own
from pytorch_intro.tour.practice import ONLY_THE_NETWORK, run_command

settings = [
    "data=folder",
    f"data.root={photos}",
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
