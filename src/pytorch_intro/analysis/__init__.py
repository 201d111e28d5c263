"""Class metrics and plots."""
