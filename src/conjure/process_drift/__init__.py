"""The divergence between two processes on the same text: what a change of a model or of its settings changes."""
