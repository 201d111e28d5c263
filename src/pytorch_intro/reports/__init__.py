"""Plots, the model card, pages of TensorBoard, and a warning when steps become slow."""
