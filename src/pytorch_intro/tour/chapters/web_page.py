# %% [markdown]
# # 20. From a run to a web page
#
# To read on: this project's docs/using.md and docs/serving.md.

# %% [markdown]
# The network has learned. Now other people should use it. What do they need? All of it is in the run folder.

# %%
import json

from pytorch_intro.tour.practice import run_on_clothes

run = run_on_clothes()  # python src/train.py data=sample trainer.max_epochs=2
files = sorted(
    str(file.relative_to(run)) for file in run.rglob("[!.]*.*") if file.is_file()
)
result = json.loads((run / "result.json").read_text())
assert {"checkpoints/best.ckpt", "config.yaml", "result.json", "train.log"} <= set(files)
assert result["status"] == "finished"
print(*files, sep="\n")
# At work: src/pytorch_intro/runs/folder.py: RunFolder

# %% [markdown]
# `config.yaml` has all settings, and `result.json` has the result.
#
# A **checkpoint** is a file with the parameters of a network, and with everything else that a training needs to continue.
# Its main part is the state_dict (chapter 14). In a run folder, it is `checkpoints/best.ckpt`.
#
# The function `load_run` reads these files. It returns three things: the network, the names of the classes, and the
# transforms.

# %%
# Needs: pytorch_intro.inference
import torch

from pytorch_intro import load_run
from pytorch_intro.data.ingest.fashion_mnist import FashionMNISTSample
from pytorch_intro.tour.sample import SAMPLE

network, classes, transforms = load_run(run)
test = FashionMNISTSample(str(SAMPLE), False)
images, labels = test.__getitems__(range(len(test)))
ready = torch.stack([transforms(image) for image in images])
with torch.no_grad():
    answers = network(ready).argmax(dim=1)
accuracy = (answers == labels).float().mean().item()
assert not network.training  # load_run has called eval()
assert abs(accuracy - result["test/accuracy"]) < 0.02
f"{accuracy:.1%} with load_run, {result['test/accuracy']:.1%} in result.json"
# At work: src/pytorch_intro/inference/load.py: load_run

# %% [markdown]
# Why are the transforms part of it? The network must get its pictures as in the training: the same size, the same
# normalization. Otherwise it gives bad answers, and no error message. This is true for your own test pictures, too.
#
# The code below forgets the transforms. The pixels have values from 0 to 255 then, instead of small numbers around 0.

# %%
# Needs: pytorch_intro.inference
with torch.no_grad():
    wrong = network(images.float()).argmax(dim=1)
forgotten = (wrong == labels).float().mean().item()
assert forgotten < accuracy - 0.1
f"{accuracy:.1%} correct with the transforms, {forgotten:.1%} without"
# At work: src/pytorch_intro/data/normalize.py: Normalize

# %% [markdown]
# For many pictures, use the command `python src/predict.py run=RUN images=PICTURES`. RUN is the run folder, for example
# `outputs/first`. PICTURES is a folder of pictures. The command writes a table with the answer for each picture.
#
# But your friends do not have Python. They have a browser.
#
# A **server** is a program that waits for requests and answers them. The command `python src/serve.py run=RUN` starts
# one for a network. It has a page where you drop pictures, or take one with your phone. Other programs can ask it, too.
#
# The server needs a few more packages: `pip install -r requirements-serve.txt`. If you do not have them, skip the next cell.
#
# **base64** is a form in which bytes are written as letters and digits. A picture is not text, so a program sends it to the
# server in this form.
#
# The code below starts the server, and waits until it prints its address. `port=0` means: any free one. Then it sends a
# picture of a shoe. At the end, the server stops. You need not understand each line.

# %%
# Needs: pytorch_intro.serving, fastapi, uvicorn
# Slow: a server takes some seconds to start
import base64
import io
import subprocess
import urllib.request

from pytorch_intro.analysis.plots import to_pil_images
from pytorch_intro.config.paths import process_arguments

command = [*process_arguments("serve"), f"run={run}", "port=0", "trainer.accelerator=cpu"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
try:
    lines = iter(server.stdout.readline, "")
    address = next(line for line in lines if "http://" in line).split(" at ")[1].split()[0]
    shoe = labels.tolist().index(classes.index("Sneaker"))
    file = io.BytesIO()
    to_pil_images(images[shoe : shoe + 1])[0].save(file, "PNG")
    body = json.dumps({"images": [base64.b64encode(file.getvalue()).decode()]})
    request = urllib.request.Request(f"{address}/predict", body.encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        (prediction,) = json.load(response)["predictions"]
    with urllib.request.urlopen(address, timeout=60) as response:
        page = response.read().decode()
finally:
    server.terminate()
    server.wait(timeout=60)
    server.stdout.close()
assert prediction["label"] == classes[answers[shoe]]
assert "<html" in page
assert server.returncode is not None  # it has stopped
f"{prediction['label']}, {prediction['probability']:.0%}"
# At work: src/pytorch_intro/commands/serve.py: main
# At work: src/pytorch_intro/serving/app.py: build_app

# %% [markdown]
# What if the other program is not written in Python?
#
# To **export** a network means: write it into a file that other programs can run, without PyTorch.
#
# **ONNX** is the best-known form of exported networks. The command `python src/export.py run=RUN` writes one, and
# checks that it gives the same answers as PyTorch.
#
# What does such a file contain? The operations of the network, one after the other. PyTorch finds them when it follows one
# picture through the network. The code below does this with a small network. In the names, "aten" stands for the part of
# PyTorch that has these operations.

# %%
from torch import nn

small = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Softmax(dim=1)).eval()
example = torch.rand(1, 1, 28, 28)
exported = torch.export.export(small, (example,))
operations = [
    str(node.target) for node in exported.graph.nodes if node.op == "call_function"
]
assert torch.equal(exported.module()(example), small(example))
assert any("linear" in operation for operation in operations)
print(*operations, sep="\n")
# At work: src/pytorch_intro/inference/formats.py: write_formats

# %% [markdown]
# This is the end of the tour. What next? The first command below trains with all 60,000 pictures. The data is downloaded
# once. The second command lists the settings. The third one shows the curves in a browser. The README explains the rest.

# %%
from importlib.util import find_spec

from pytorch_intro.config.paths import command_line

train = " ".join(command_line("train"))
assert find_spec("pytorch_intro.commands.train") is not None
print(train, f"{train} --help", "tensorboard --logdir outputs", sep="\n")
