"""The LightningModule: training, validation and test are inherited; override any hook."""

from torch.nn.utils import get_total_norm

from pytorch_intro.training.classifier import Classifier


class MyClassifier(Classifier):
    def on_train_epoch_end(self) -> None:
        """Log the L2 norm of all weights."""
        self.log("weight_norm", get_total_norm(self.network.parameters()))
