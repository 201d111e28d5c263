"""Metrics besides loss and accuracy: metrics=[f1_macro,auroc] and any torchmetrics class."""
