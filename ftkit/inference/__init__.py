"""A model asked: answers, log-likelihoods, losses and divergence, here or behind an OpenAI-compatible endpoint."""
