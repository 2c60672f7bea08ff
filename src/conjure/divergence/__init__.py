"""Divergences between the processes of two texts, their weightings, and Monte-Carlo estimates of them."""
