"""What every layer uses: errors, files, locks, ranks, memory, text. Imports neither torch nor Hydra."""
