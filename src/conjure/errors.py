"""What Conjure says of bad input: one line that tells what was got, what is allowed and how to mend it."""


class InputError(ValueError):
    """Bad input from a user: a text, a setting, a model, a path. The command line prints it and exits with 2."""


class TextCutWarning(UserWarning):
    """A text does not count whole: it is longer than the text encoder takes, or has symbols that the encoder does not know."""


class NoWorkersWarning(UserWarning):
    """All workers are still starting, or wait for the cluster to have room for them."""
