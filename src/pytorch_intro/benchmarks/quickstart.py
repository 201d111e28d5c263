"""PyTorch's quickstart tutorial, reimplemented with its choices unchanged.

An MLP of 784-512-512-10, SGD with a learning rate of 1e-3, 5 epochs in batches of 64 from torchvision's dataset and a
DataLoader that does not shuffle, and a test after each epoch.
Source: https://docs.pytorch.org/tutorials/beginner/basics/quickstart_tutorial.html

    python quickstart.py ROOT DEVICE      prints a line of JSON per epoch
"""

import json
import sys
import time

START = time.perf_counter()

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchvision import datasets  # noqa: E402
from torchvision.transforms import ToTensor  # noqa: E402


class NeuralNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.layers = nn.Sequential(
            nn.Linear(28 * 28, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(self.flatten(images))


def main(root: str, device: str, epochs: int = 5) -> None:
    """Train and test."""
    training = datasets.FashionMNIST(root, train=True, transform=ToTensor())
    test = datasets.FashionMNIST(root, train=False, transform=ToTensor())
    train_loader, test_loader = DataLoader(training, batch_size=64), DataLoader(test, batch_size=64)
    model = NeuralNetwork().to(device)
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        began = time.perf_counter()
        train_epoch(train_loader, model, loss_function, optimizer, device)
        speed = len(training) / (time.perf_counter() - began)
        accuracy = accuracy_on(test_loader, model, loss_function, device)
        seconds = time.perf_counter() - START
        figures = {"epoch": epoch + 1, "seconds": seconds, "accuracy": accuracy, "images_per_second": speed}
        print(json.dumps(figures))


def train_epoch(
    loader: DataLoader, model: nn.Module, loss_function: nn.Module, optimizer: torch.optim.Optimizer, device: str
) -> None:
    model.train()
    for batch, (images, targets) in enumerate(loader):
        images, targets = images.to(device), targets.to(device)
        loss = loss_function(model(images), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if batch % 100 == 0:
            print(f"loss: {loss.item():>7f}", file=sys.stderr)


def accuracy_on(loader: DataLoader, model: nn.Module, loss_function: nn.Module, device: str) -> float:
    model.eval()
    loss, correct = 0.0, 0.0
    with torch.no_grad():
        for images, targets in loader:
            images, targets = images.to(device), targets.to(device)
            logits = model(images)
            loss += loss_function(logits, targets).item()
            correct += (logits.argmax(1) == targets).float().sum().item()
    print(f"test loss: {loss / len(loader):>8f}", file=sys.stderr)
    return correct / len(loader.dataset)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
