# %% [markdown]
# # 13. The same with Lightning
#
# To read on: Lightning's documentation, "Lightning in 15 minutes".

# %% [markdown]
# In chapter 12, we wrote a training step. A real training needs more around it: loops over epochs and batches, devices,
# files, and a record of the loss. This code is the same in every project.
#
# **Lightning** is a library with a ready training loop, and with everything around it.
#
# A **LightningModule** is a class that you write. It describes one training step, and which optimizer to use.
#
# A **Trainer** is the part of Lightning that does the training. It takes as many steps as you want.
#
# `training_step` gets a batch and its number, `batch_idx`. Here the number is not needed.
#
# The Trainer moves the network and each batch to the device. It calls `zero_grad()`, `backward()` and `step()`. For a
# validation, it calls `eval()`, switches gradients off, and switches everything back. So you write none of this.

# %%
import torch
from lightning import LightningModule, Trainer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset


class Learner(LightningModule):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def training_step(self, batch, batch_idx):
        features, targets = batch
        return cross_entropy(self.network(features), targets)

    def configure_optimizers(self):
        return torch.optim.SGD(self.network.parameters(), lr=0.1)


torch.manual_seed(0)
network = nn.Linear(2, 3)
features, targets = torch.randn(4, 2), torch.tensor([0, 1, 2, 1])
start = {name: block.clone() for name, block in network.state_dict().items()}
assert issubclass(LightningModule, nn.Module)
"a LightningModule is a module, too"
# At work: src/pytorch_intro/training/classifier.py: Classifier

# %% [markdown]
# Is it really the same? The code below takes one step by hand, and one step with the Trainer. Then it compares the
# parameters.

# %%
from pytorch_intro.training.trainer import silence_lightning

loss = cross_entropy(network(features), targets)
loss.backward()
by_hand = {
    name: block.detach() - 0.1 * block.grad for name, block in network.named_parameters()
}

silence_lightning()  # Lightning would print messages about itself
network.load_state_dict(start)  # back to the first parameters (chapter 14)
quiet = {  # write no files and print nothing
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
trainer = Trainer(accelerator="cpu", devices=1, max_steps=1, **quiet)
trainer.fit(Learner(network), DataLoader(TensorDataset(features, targets), batch_size=4))
assert trainer.global_step == 1
assert all(
    torch.equal(network.state_dict()[name], weights) for name, weights in by_hand.items()
)
"the same parameters, to the last bit"
# At work: src/pytorch_intro/training/trainer.py: build_trainer
# At work: src/pytorch_intro/commands/train.py: train
