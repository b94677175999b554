"""A base from nothing: its own tokenizer, a Llama of any size, random weights."""
