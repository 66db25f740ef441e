"""The settings of each trainer, as dataclasses over TRL's; common.py holds what they share.

classify.py  The settings of `ftkit classify` beside transformers' own
common.py    The settings ftkit adds to TRL's, and the defaults it takes from the hardware instead of from a const
distill.py   The settings of `ftkit distill` beside TRL's
dpo.py       The settings of `ftkit dpo` beside TRL's
embed.py     The settings of `ftkit embed` beside transformers' own
grpo.py      The settings of `ftkit grpo` beside TRL's
kto.py       The settings of `ftkit kto` beside TRL's
needs.py     What a setting needs to have an effect: tables of Needs beside the settings, checked in one place
ppo.py       The settings of `ftkit ppo`
pretrain.py  The settings of `ftkit pretrain`: raw text, a model from scratch or from weights, and a budget of tok
ranges.py    What values settings may have, beside their type
rates.py     The peak learning rate where nobody chose one
reward.py    The settings of `ftkit reward` beside TRL's
sft.py       The settings of `ftkit sft` beside TRL's
ternary.py   The settings of fine-tuning to 1.58 bits
"""
