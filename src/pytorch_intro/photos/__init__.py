"""Augmentations for photographs; see data/augment/basic.py for shapes and dtypes."""
