"""Proximal policy optimisation; `ftkit.training.methods.ppo` puts the parts together.

formulas.py  The mathematics: rewards of tokens, advantages, the clipped losses, the adaptive weight of the KL term
"""
