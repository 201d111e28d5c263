"""Class metrics, plots, ranking of runs, Markdown tables."""
