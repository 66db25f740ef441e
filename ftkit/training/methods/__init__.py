"""One file per trainer: the thin subclass of TRL's or transformers' trainer.

classify.py  Classifiers: labelled rows and a model with a head made ready, and the trainer
distill.py   Distillation: rows and teacher made ready, the teacher asked or kept, and the trainer of each way
dpo.py       TRL's DPOTrainer on pairs that are already tokenized, with the reference it is given or the adapter i
embed.py     Embedding models: pairs and an encoder made ready, and sentence-transformers' trainer
grpo.py      GRPO, its family and RLOO: prompts answered by the model as it is, rewarded, and trained by TRL's trainer
kto.py       TRL's KTOTrainer on answers that are wanted or not, in an order mixed by seed
ppo.py       The trainer of `ftkit.training.ppo` on prompts that are already tokenized
pretrain.py  transformers' Trainer on blocks of text
reward.py    Reward models: whole pairs, TRL's RewardTrainer, and a proof of what is saved
sft.py       TRL's SFTTrainer on rows that are already tokenized and labelled, so that it trains on what the recei
"""
