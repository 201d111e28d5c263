"""Loggers that send a run to Weights & Biases or MLflow."""
