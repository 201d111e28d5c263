"""A report on a dataset before training: broken files, duplicates, likely label errors."""
