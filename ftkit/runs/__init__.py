"""The story of a training run: opened, announced, benchmarked, closed.

benchmark.py  Before and after by itself
lifecycle.py  What the launchable trainers share
"""
