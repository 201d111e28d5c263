"""From arguments to a config, a task and an exit code."""
