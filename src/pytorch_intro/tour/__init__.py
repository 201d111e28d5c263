"""The tour: the notes and what follows in practice, as chapters of code cells, and the code that runs them."""

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
    "with_lightning",
    "saving",
    "usage",
    "training",
    "own_data",
    "finetuning",
    "comparing",
    "web_page",
)
