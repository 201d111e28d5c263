# %% [markdown]
# # 17. Look at your data first
#
# To read on: this project's docs/data_report.md.

# %% [markdown]
# Now you know how a network learns. The last four chapters are about practice, with pictures of your own.
#
# Such pictures are usually in a folder. It contains one folder for each class. The name of that folder is the label.
#
# The code below makes such a folder with cups, keys and leaves. Imagine that they are your own photographs. Some things are
# wrong with it, as with any real data. We will find them.

# %%
import tempfile
from pathlib import Path

from pytorch_intro.tour.photos import make_photos, spoil_photos

workplace = Path(tempfile.mkdtemp(prefix="tour-"))
folder = workplace / "photos"
make_photos(folder, {"cup": 40, "key": 40, "leaf": 3})
spoil_photos(folder)
files = sorted(folder.rglob("*.png"))
assert len(files) == 85  # 83 pictures, and two copies of some of them
[str(file.relative_to(folder)) for file in files[:3]]
# At work: src/pytorch_intro/data/ingest/image_folder.py: ImageFolder

# %% [markdown]
# First, look at some pictures of each class. You find at once what no number shows: wrong pictures, a thumb in front of
# the camera, pictures that lie on their side. Here, all look right. What is wrong is among the others.

# %%
from PIL import Image

from pytorch_intro.analysis.plots import plot_image_grid

shown = [
    file
    for name in ("cup", "key", "leaf")
    for file in sorted((folder / name).iterdir())[:6]
]
captions = [file.parent.name for file in shown]
contact_sheet = plot_image_grid(
    [Image.open(file).convert("L") for file in shown],
    captions,
    "Some pictures of each class",
)
contact_sheet

# %% [markdown]
# Then, count the pictures of each class. There are only three leaves.
#
# A dataset is **unbalanced** if some classes have many more pictures than others. Then accuracy can mislead you.
#
# A program that never answers "leaf" knows nothing about leaves. But here, nearly all of its answers are correct.
#
# So look at the accuracy of each class, too. And collect more pictures of the rare class.

# %%
from collections import Counter

labels = [file.parent.name for file in files]
counts = Counter(labels)
without_leaf = [name if name != "leaf" else "cup" for name in labels]
correct = sum(answer == name for answer, name in zip(without_leaf, labels, strict=True))
assert counts["leaf"] * 10 < counts["cup"]
assert correct / len(labels) > 0.95
f"{dict(counts)}: never a leaf, but {correct / len(labels):.0%} correct"
# At work: src/pytorch_intro/data_report/findings.py: Findings.find_imbalance
# At work: conf/loss/_base.yaml: class_weights

# %% [markdown]
# Is every file complete? If a copy or a download stops too early, the end of the file is missing. Only a program that reads
# all of the file finds this. Delete such a file, or get it again.

# %%
broken = []
for file in files:
    try:
        with Image.open(file) as picture:
            picture.load()
    except OSError:
        broken.append(file)
assert [file.name for file in broken] == ["key_07.png"]
[file.name for file in broken]
# At work: src/pytorch_intro/data_report/findings.py: Findings.find_broken

# %% [markdown]
# Is the same picture there twice? To compare every picture with every other one takes a long time.
#
# A **hash** is a short text that is computed from some data. The same data has the same hash. Other data practically always
# has another one. (The checksum of chapter 15 is one, too.)
#
# So compute a hash of each picture, and compare these.
#
# Copies are bad for two reasons. If two copies have different labels, one label is wrong. And a copy may come into the test
# set while the other one is in the training set.
#
# A **leak** is when a test picture, or nearly the same picture, is in the training set, too. Then the test is not fair: the
# network already knows the answer.
#
# Copies are only one kind of leak. Another is a wrong cut: you take the test pictures from all pictures, and forget to take
# them out of the training set. A third kind is two photographs of the same animal, one in each set.
#
# So keep all photographs of one thing in the same set. And if a test result is very good, look for a leak.
#
# What do you do with copies? Keep one of them. If their labels differ, find out which one is right. The setting
# `data.drop_duplicates=true` removes training pictures that are also in the test set.

# %%
import hashlib

first, copies = {}, []
for file in files:
    if file not in broken:
        code = hashlib.sha256(Image.open(file).tobytes()).hexdigest()
        if code in first:
            copies.append((first[code].name, file.name))
        first.setdefault(code, file)
assert copies == [("cup_03.png", "my_cup.png"), ("cup_05.png", "new_key.png")]
copies
# At work: src/pytorch_intro/data_report/duplicates.py: find_exact_duplicates
# At work: conf/data/_base.yaml: drop_duplicates

# %% [markdown]
# This project has a command that does all of this: `python src/data_report.py data=folder data.root=FOLDER`. It finds more,
# for example pictures that are almost the same. It writes a page with pictures about everything that it found.
#
# To **split** a dataset means: divide its pictures into a training, a validation and a test set. Such a set is called a
# split, too.
#
# Our folder is not divided yet. So the command first splits the pictures by chance. It also finds a copy in two splits.
#
# **EXIF** is information that a camera writes into the file of a photograph, for example how the camera was turned.
#
# Here is the short form that it prints. Does it agree with ours?

# %%
# Needs: pytorch_intro.data_report
# Slow: the command does much more than the cells above
import json

from pytorch_intro.tour.practice import run_command

settings = ["data=folder", f"data.root={folder}", f"outputs={workplace}", "name=report"]
printed = run_command("data_report", settings)
report = json.loads((workplace / "data_reports" / "report" / "report.json").read_text())
found = {name: finding["count"] for name, finding in report["findings"].items()}
assert found["broken"] == len(broken)
assert found["duplicates"] == len(copies)
assert found["duplicates_with_different_labels"] == 1
assert found["unbalanced_classes"] == 1
print(printed.partition("\n\nwritten")[0])
# At work: src/pytorch_intro/commands/data_report.py: main

# %% [markdown]
# Some labels are wrong, because people make mistakes. How do you find them among thousands of pictures? A network can help.
# Let it learn from one half of the pictures. Then ask it about the other half. Later you can do it the other way round.
#
# If it is almost sure of another class than the label, look at this picture. Often the label is wrong. Sometimes the
# label is right, and the network is wrong.
#
# We try it with the clothes. We write a wrong label on 40 of 800 pictures. Then we take the 20 pictures whose label seems
# least probable to the network.

# %%
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pytorch_intro.tour.practice import load_pictures

images, targets, _, _ = load_pictures()
known, new = slice(0, 800), slice(800, 1600)
torch.manual_seed(0)
spoiled = torch.randperm(800)[:40]
given = targets[new].clone()
given[spoiled] = (given[spoiled] + torch.randint(1, 10, (40,))) % 10
network = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)
for _ in range(5):
    for rows in torch.randperm(800).split(32):
        loss = cross_entropy(network(images[known][rows]), targets[known][rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
network.eval()
with torch.no_grad():
    probabilities = network(images[new]).softmax(dim=1)
of_label = probabilities[range(800), given]  # the probability of each given label
suspicious = of_label.argsort()[:20]  # the 20 smallest ones
hits = len(set(suspicious.tolist()) & set(spoiled.tolist()))
assert hits >= 10  # by chance, it would be one
f"{hits} of these 20 labels are wrong"
# At work: src/pytorch_intro/data_report/label_errors.py: find_label_errors

# %% [markdown]
# These are the first eight of them. Judge by yourself.

# %%
from torchvision.datasets import FashionMNIST

from pytorch_intro.analysis.plots import to_pil_images

names = FashionMNIST.classes
pixels = ((images[new][suspicious[:8]] * 0.353 + 0.286) * 255).round().byte()
captions = [
    f"label {names[given[row]]}\nrather {names[probabilities[row].argmax()]}?"
    for row in suspicious[:8].tolist()
]
suspicious_labels = plot_image_grid(
    to_pil_images(pixels), captions, "Is the label right?", columns=4
)
suspicious_labels

# %% [markdown]
# At the end, remove the files of this chapter.

# %%
import shutil

shutil.rmtree(workplace)
assert not workplace.exists()
