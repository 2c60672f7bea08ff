"""The default model, which is part of the package, and its text encoder."""
