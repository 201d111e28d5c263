"""What src/bench.py measures: a file a benchmark."""
