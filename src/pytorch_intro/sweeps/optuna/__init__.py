"""Search with Optuna: hydra/sweeper=optuna."""
