"""Create a project of the user's own in one command: pytorch-intro new DIR."""
