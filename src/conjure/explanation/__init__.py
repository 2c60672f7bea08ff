"""Explanations of a distance: images, heat maps of differences, contributions of steps and of words."""
