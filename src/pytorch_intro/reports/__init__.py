"""Pictures and the model card of a run; a warning when its steps become slow."""
