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
assert len(files) == 85
[str(file.relative_to(folder)) for file in files[:3]]
# At work: src/pytorch_intro/data/ingest/image_folder.py: ImageFolder

# %% [markdown]
# First, look at some pictures of each class. You find at once what no number shows: wrong pictures, a thumb in front of
# the camera, pictures that lie on their side.

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
# A dataset is **unbalanced** if some classes have many more pictures than others. Then accuracy can mislead you. A program
# that never answers "leaf" knows nothing about leaves. But nearly all of its answers can be correct.
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
# all of the file finds this.

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
# Is there the same picture twice? To compare every picture with every other one takes a long
# time. So compute a **hash** of each
# picture. That is a short text. The same pixels have the same hash.
#
# Copies are bad for two reasons. If two copies have different labels, one label is wrong. And a copy may come into the test
# set while the other one is in the training set. Then the test is not fair: the network already knows the answer. This is
# called a **leak**.

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
printed.partition("\n\nwritten")[0]
# At work: src/pytorch_intro/commands/data_report.py: main

# %% [markdown]
# Some labels are wrong, because people make mistakes. How do you find them among thousands of pictures? A network can help.
# Let it learn from one half of the pictures. Then ask it about the other half.
#
# If it is almost sure of another class than the label, look at this picture. Often the label is wrong. Sometimes the label is
# right, and the network is wrong.
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
with torch.no_grad():
    probabilities = network(images[new]).softmax(dim=1)
suspicious = probabilities[range(800), given].argsort()[:20]
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
