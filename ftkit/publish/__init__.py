"""What leaves the machine: the model card."""
