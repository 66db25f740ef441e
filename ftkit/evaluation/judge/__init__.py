"""A model as judge: prompts, requests, results, votes."""
