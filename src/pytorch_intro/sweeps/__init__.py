"""Sweeps: many runs from one command, each in its own folder, with a summary of all."""
