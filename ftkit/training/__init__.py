"""Thin subclasses of TRL's trainers, and what surrounds a run: plan, checkpoints, progress, the run folder."""
