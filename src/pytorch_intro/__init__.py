"""PyTorch Intro: image classifiers with PyTorch Lightning and Hydra. Nothing heavy is imported here."""
