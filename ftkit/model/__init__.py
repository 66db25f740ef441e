"""FTGPT and its weights. Importing this registers FTGPT with transformers' Auto classes.

adapters/               Adapters
alike.py                Whether tokenizers and templates are alike
classifier.py           Sequence classifiers, decoders and encoders alike
configuration_ftgpt.py  FTGPTConfig
context.py              How many tokens a model sees at once
default_base.py         The base model that is taken where a person names none
fast/                   Fast paths, each equal to the plain path by test and off by one flag
finite.py               Weights that hold NaN or infinity, found by name
importing.py            Brings a GPT that someone wrote and trained into FTGPT
limits.py               What the files of a model or an adapter may ask for
loading.py              Loads models and tokenizers by name
modeling_ftgpt.py       FTGPT: one decoder, from token ids to logits, in one file
padding.py              Gives a tokenizer a pad token that is not its end token, out of the tokens it already has
trained_classifier.py   A classifier that was trained, for use
value_head.py           The value of a state for PPO
weights/                Weight formats
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from ftkit.model.configuration_ftgpt import FTGPTConfig
from ftkit.model.modeling_ftgpt import FTGPTForCausalLM, FTGPTForSequenceClassification, FTGPTModel

AutoConfig.register("ftgpt", FTGPTConfig, exist_ok=True)
AutoModel.register(FTGPTConfig, FTGPTModel, exist_ok=True)
AutoModelForCausalLM.register(FTGPTConfig, FTGPTForCausalLM, exist_ok=True)
AutoModelForSequenceClassification.register(FTGPTConfig, FTGPTForSequenceClassification, exist_ok=True)

__all__ = ["FTGPTConfig", "FTGPTForCausalLM", "FTGPTForSequenceClassification", "FTGPTModel"]
