"""The story of a training run: opened, announced, benchmarked, closed."""
