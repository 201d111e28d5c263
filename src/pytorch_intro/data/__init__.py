"""Datasets, splits, the sampler and the DataModule."""
