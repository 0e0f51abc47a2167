"""Models in int8: the recipes that make them, and the model that serves a run."""
