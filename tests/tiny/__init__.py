"""The tiny checkpoint: models, tokenizer and the layouts they are written in."""
