"""Temperature scaling: calibrate the predicted probabilities on validation images."""
