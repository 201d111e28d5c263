"""Finished runs: evaluate, predict, export."""
