"""What every layer uses: errors, files, locks, ranks, memory, tables. Imports neither torch nor Hydra."""
