"""The Hugging Face hub: its datasets, and datasets of local files in its formats."""
