# %% [markdown]
# ## 1. Who does what?
#
# In Lightning, some things are your work, and some are the Trainer's. For each, write "module" if it belongs in your
# LightningModule, or "trainer" if the Trainer does it.

# %% template
the_loop_over_the_batches = ...
how_the_loss_is_computed = ...
which_optimizer = ...
calls_zero_grad_backward_and_step = ...

# %% solution
the_loop_over_the_batches = "trainer"
how_the_loss_is_computed = "module"
which_optimizer = "module"
calls_zero_grad_backward_and_step = "trainer"

# %% wrong
the_loop_over_the_batches = "trainer"
how_the_loss_is_computed = "module"
which_optimizer = "module"
calls_zero_grad_backward_and_step = "module"

# %% check
assert the_loop_over_the_batches == "trainer", (
    "Chapter 13 has no loop in the LightningModule. So who loops?"
)
assert how_the_loss_is_computed == "module", (
    "The loss is what `training_step` returns. Who has this method?"
)
assert which_optimizer == "module", "Who has the method `configure_optimizers`?"
assert calls_zero_grad_backward_and_step == "trainer", (
    "Look at `training_step` in chapter 13: it only returns the loss. So somebody else calls the three lines."
)

# %% [markdown]
# ## 2. A training step
#
# Complete the LightningModule. The loss is cross-entropy. The optimizer is SGD with the learning rate `rate`.

# %% template
import torch
from lightning import LightningModule
from torch.nn.functional import cross_entropy


class MyLearner(LightningModule):
    def __init__(self, network, rate):
        super().__init__()
        self.network = network
        self.rate = rate

    def training_step(self, batch, batch_idx):
        raise NotImplementedError

    def configure_optimizers(self):
        raise NotImplementedError


# %% solution
import torch
from lightning import LightningModule
from torch.nn.functional import cross_entropy


class MyLearner(LightningModule):
    def __init__(self, network, rate):
        super().__init__()
        self.network = network
        self.rate = rate

    def training_step(self, batch, batch_idx):
        features, targets = batch
        return cross_entropy(self.network(features), targets)

    def configure_optimizers(self):
        return torch.optim.SGD(self.network.parameters(), lr=self.rate)


# %% wrong
import torch
from lightning import LightningModule
from torch.nn.functional import cross_entropy


class MyLearner(LightningModule):
    def __init__(self, network, rate):
        super().__init__()
        self.network = network
        self.rate = rate

    def training_step(self, batch, batch_idx):
        features, targets = batch
        loss = cross_entropy(self.network(features), targets)

    def configure_optimizers(self):
        return torch.optim.SGD(self.network.parameters(), lr=self.rate)


# %% check
from torch import nn

torch.manual_seed(0)
network = nn.Linear(2, 3)
features, targets = torch.randn(4, 2), torch.tensor([0, 1, 2, 1])
learner = MyLearner(network, 0.25)
loss = learner.training_step((features, targets), 0)
loss = loss.get("loss") if isinstance(loss, dict) else loss  # Lightning allows both
assert loss is not None, "`training_step` returns nothing. It has to return the loss."
assert isinstance(loss, torch.Tensor) and loss.requires_grad, (
    "Return the loss as a tensor, without `item()`."
)
assert torch.equal(loss, cross_entropy(network(features), targets)), (
    "The loss is not the cross-entropy of the batch."
)
optimizer = learner.configure_optimizers()
if (
    isinstance(optimizer, (list, tuple)) and len(optimizer) == 1
):  # Lightning allows this, too
    (optimizer,) = optimizer
assert isinstance(optimizer, torch.optim.SGD), (
    f"`configure_optimizers` has to return an SGD, not an object of the class {type(optimizer).__name__}."
)
assert optimizer.param_groups[0]["lr"] == 0.25, "The learning rate is not `self.rate`."

# %% [markdown]
# ## 3. Training and validation
#
# Validation is a test during the training, with the validation set (chapter 1). The Trainer calls `validation_step` for each
# batch of it, after each epoch.
#
# Write this method. It gets a batch like `training_step`. It returns the accuracy of the batch: the share of correct
# answers, as a tensor from 0 to 1. The answer of the network is the place of the largest logit: `argmax(dim=1)`.
# `(answers == targets).float()` has a 1 for each correct answer, otherwise a 0. (To record it, you would also call
# `self.log`. Do not call it here: it needs a Trainer.)

# %% template
import torch
from lightning import LightningModule


class WithValidation(LightningModule):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def validation_step(self, batch, batch_idx):
        raise NotImplementedError


# %% solution
import torch
from lightning import LightningModule


class WithValidation(LightningModule):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def validation_step(self, batch, batch_idx):
        features, targets = batch
        answers = self.network(features).argmax(dim=1)
        return (answers == targets).float().mean()


# %% wrong
import torch
from lightning import LightningModule


class WithValidation(LightningModule):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def validation_step(self, batch, batch_idx):
        features, targets = batch
        answers = self.network(features).argmax(dim=1)
        return (answers == targets).sum()


# %% check
from torch import nn

logits = torch.tensor([[9.0, 1, 2], [1, 2, 9], [9, 2, 1], [1, 9, 2]])
answer = WithValidation(nn.Identity()).validation_step(
    (logits, torch.tensor([0, 2, 1, 1])), 0
)
assert answer is not None, "`validation_step` returns nothing. Is there a `return`?"
assert float(answer) != 3, (
    "3 is the number of correct answers. The accuracy is their share: use `.float().mean()`."
)
assert abs(float(answer) - 0.75) < 1e-6, (
    f"3 of 4 answers are correct, so the accuracy is 0.75, but you return {answer}."
)
