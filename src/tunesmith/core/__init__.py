"""The nouns everyone shares. Standard library and pydantic only: no tensors, no files of a model."""
