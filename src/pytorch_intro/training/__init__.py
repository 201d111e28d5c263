"""The LightningModule, optimizers, Trainer, checkpoints and resume."""
