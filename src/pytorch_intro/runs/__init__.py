"""The run folder on disk: config, result, logs. No Lightning."""
