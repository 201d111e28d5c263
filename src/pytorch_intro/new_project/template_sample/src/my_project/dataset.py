"""The images. Replace this Dataset by your own; each item is an image and the index of its class."""

from torch import Tensor
from torch.utils.data import Dataset

from pytorch_intro.data.ingest.fashion_mnist import FashionMNISTSample


class MyDataset(Dataset):
    """2,000 images of Fashion-MNIST that come with PyTorch Intro. Images may also be PIL images or arrays."""

    def __init__(self, root: str, train: bool = True) -> None:
        self.sample = FashionMNISTSample(root, train)
        self.classes = self.sample.classes

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.sample[index]
        return image, int(label)
