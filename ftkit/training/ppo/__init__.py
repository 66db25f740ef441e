"""Proximal policy optimisation; `ftkit.training.methods.ppo` puts the parts together.

formulas.py    The mathematics: rewards of tokens, advantages, the clipped losses, the adaptive weight of the KL term
rollout.py     A rollout: answers drawn from the policy, with all that the updates on them have to know
trainer.py     The algorithm: rollouts, and updates on them
value_part.py  Trainer part for a model with a value head
"""
