"""Fast paths, each equal to the plain path by test and off by one flag; and a layer of 1.58 bits, which is none.

bit_linear.py         A linear layer of 1.58 bits
chunked_log_probs.py  Per-token log-probabilities of a linear language-model head, in tiles, with gradients formed
chunked_sum.py        The sum of any loss of rows' logits, in chunks of rows, with gradients formed in forward
few_rows.py           Linear layers of few rows on a CPU, as in writing one token at a time, by all its cores
fused_lora.py         A LoRA layer as one autograd function, y = x W' + s (x A') B', on a CPU
head_kernels.py       Which kernel scores the LM head
head_statistics.py    What a row of logits comes to, summed tile by tile
loss_head.py          Compact loss head at the one seam that all TRL trainers share
packed_attention.py   Attention for packed rows on a CPU: each document by itself, instead of all against all behi
varlen_attention.py   Attention for packed rows on a GPU: torch's kernel for sequences of several lengths
"""
