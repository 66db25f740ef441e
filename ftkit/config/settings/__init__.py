"""The settings of each trainer, as dataclasses over TRL's; common.py holds what they share."""
