"""Figures made from arrays and labels: heat maps, charts and sheets of images."""
