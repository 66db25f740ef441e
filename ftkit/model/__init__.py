"""FTGPT and its weights. Importing this registers FTGPT with transformers' Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from ftkit.model.configuration_ftgpt import FTGPTConfig
from ftkit.model.modeling_ftgpt import FTGPTForCausalLM, FTGPTForSequenceClassification, FTGPTModel

AutoConfig.register("ftgpt", FTGPTConfig, exist_ok=True)
AutoModel.register(FTGPTConfig, FTGPTModel, exist_ok=True)
AutoModelForCausalLM.register(FTGPTConfig, FTGPTForCausalLM, exist_ok=True)
AutoModelForSequenceClassification.register(FTGPTConfig, FTGPTForSequenceClassification, exist_ok=True)

__all__ = ["FTGPTConfig", "FTGPTForCausalLM", "FTGPTForSequenceClassification", "FTGPTModel"]
