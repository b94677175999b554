"""The journeys: a recipe to prepared data, to a trained model, to figures, to a report, to something usable.

Torch is imported only by the modules that hold a model (`bench`, `train`, `score`, `use`, `export`); reading,
checking and listing load none.
"""
