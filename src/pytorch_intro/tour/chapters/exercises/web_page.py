# %% [markdown]
# ## 1. Is the run finished?
#
# Write the function `test_result`. It gets a run folder, a `Path`. It returns the value of `test/accuracy` in `result.json`.
# If this file does not exist, the training has not come to its end: return None.

# %% template
import json


def test_result(folder):
    raise NotImplementedError


# %% solution
import json


def test_result(folder):
    file = folder / "result.json"
    if not file.exists():
        return None
    return json.loads(file.read_text())["test/accuracy"]


# %% wrong
import json


def test_result(folder):
    return json.loads((folder / "result.json").read_text())["test/accuracy"]


# %% check
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory(prefix="tour-") as name:
    folder = Path(name)
    try:
        answer = test_result(folder)
    except FileNotFoundError:
        answer = "an error"
    assert answer != "an error", (
        "Without result.json, your code stops with an error. Look first: `file.exists()`. If it does not exist, return None."
    )
    assert answer is None, (
        f"Without result.json, the function should return None, not {answer!r}."
    )
    (folder / "result.json").write_text('{"test/accuracy": 0.82, "val/accuracy": 0.8}')
    answer = test_result(folder)
    assert answer == 0.82, f"The test accuracy is 0.82, but you return {answer!r}."

# %% [markdown]
# ## 2. The three best answers
#
# Write the function `top_three`. It gets the logits of one picture, a tensor with one number for each class, and the list of
# the names of the classes. It returns a list of three pairs, (name, probability). The most probable class comes first.
#
# One picture has only one dimension, the classes: so softmax needs `dim=0` here. `values, places = numbers.topk(3)`
# finds the three largest numbers and their places.

# %% template
import torch


def top_three(logits, classes):
    raise NotImplementedError


# %% solution
import torch


def top_three(logits, classes):
    values, places = logits.softmax(dim=0).topk(3)
    return [
        (classes[place], value)
        for place, value in zip(places.tolist(), values.tolist(), strict=True)
    ]


# %% wrong
import torch


def top_three(logits, classes):
    values, places = logits.topk(3)
    return [
        (classes[place], value)
        for place, value in zip(places.tolist(), values.tolist(), strict=True)
    ]


# %% check
classes = ["bag", "coat", "dress", "shirt"]
answer = top_three(torch.tensor([1.0, 4, 2, 3]), classes)
assert answer is not None, "The function returns nothing. Is there a `return`?"
names = [name for name, _ in answer]
assert len(names) == 3, f"The list should have three pairs, but has {len(names)}."
assert names == ["coat", "shirt", "dress"], (
    f"The order should be coat, shirt, dress: the largest logit first. You return {names}."
)
probabilities = [float(probability) for _, probability in answer]
assert max(probabilities) <= 1, (
    "These are logits, not probabilities: one is larger than 1. Which function turns logits into probabilities?"
)
assert abs(probabilities[0] - 0.6439) < 1e-3, (
    f"The probability of coat is 64%, but you return {probabilities[0]:.0%}. Apply softmax to all four logits."
)

# %% [markdown]
# ## 3. Ask the server
#
# Write the function `ask`. It gets the address of a server, such as `http://127.0.0.1:8000`, and the content of a picture
# file, as bytes. It sends them to `/predict`, as this chapter does. It returns the label of the answer.

# %% template
import base64
import json
import urllib.request


def ask(address, content):
    raise NotImplementedError


# %% solution
import base64
import json
import urllib.request


def ask(address, content):
    body = json.dumps({"images": [base64.b64encode(content).decode()]})
    request = urllib.request.Request(f"{address}/predict", body.encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["predictions"][0]["label"]


# %% wrong
import base64
import json
import urllib.request


def ask(address, content):
    body = json.dumps({"images": [base64.b64encode(content).decode()]})
    request = urllib.request.Request(address, body.encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["predictions"][0]["label"]


# %% check
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

received = {}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"]))
        received.update(path=self.path, type=self.headers["Content-Type"], text=text)
        self.send_response(200)
        self.end_headers()
        answer = {"predictions": [{"label": "Sneaker", "probability": 0.9}]}
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(
    target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
).start()
try:
    answer = ask(f"http://127.0.0.1:{server.server_port}", b"a picture")
finally:
    server.shutdown()
    server.server_close()
assert received, (
    "The server got nothing. Send it a request with a body: `urlopen(Request(…, body))`."
)
assert received["path"] == "/predict", (
    f"You sent the picture to {received['path']}, and not to /predict. Add it to the address."
)
assert received["type"] == "application/json", (
    "The server has to know the form of the body: `add_header('Content-Type', 'application/json')`."
)
images = json.loads(received["text"]).get("images")
assert images == [base64.b64encode(b"a picture").decode()], (
    f"The body should have the picture in base64, in a list under the name images. It has {images!r}."
)
assert answer == "Sneaker", (
    f"The server answered Sneaker, but you return {answer!r}. It is in `['predictions'][0]['label']`."
)
