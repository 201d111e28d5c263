"""Sweeps: many runs by one command, each in a folder of its own, and a summary of all."""
