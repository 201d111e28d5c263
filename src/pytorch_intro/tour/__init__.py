"""The notes, live: chapters in cells, and what walks through them."""

CHAPTERS = (
    "data_sets",
    "devices",
    "moving",
    "tensors",
    "memory",
    "datasets",
    "options",
    "own_dataset",
    "batches",
    "transforms",
    "modules",
    "learning",
    "lightning",
    "saving",
    "usage",
    "training",
)
