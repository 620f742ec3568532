"""Wording: how people describe posters, and the tokenizer of their prompts."""
