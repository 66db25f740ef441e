"""TRL's SFTTrainer on rows that are already tokenized and labelled, so that it trains on what the receipt shows."""

from trl import SFTTrainer

from ftkit.training.run_trainer import RunMixin


class FTSFTTrainer(RunMixin, SFTTrainer):
    """SFTTrainer with what ftkit adds to every trainer."""
