"""Old names of attributes of a process that still work for one release."""

from __future__ import annotations

from conjure.deprecation import deprecated_property, warn_renamed


class DeprecatedProcessNames:
    """The old names of attributes and methods of `Process`, which is the only subclass."""

    batch_prompts: bool | None

    unit = deprecated_property("unit", "default_unit")
    call = deprecated_property("call", "pipeline_kwargs")
    rows = deprecated_property("rows", "batch_size")

    @property
    def alone(self) -> bool:
        """Deprecated: the opposite of `batch_prompts`."""
        warn_renamed("Process.alone", "Process.batch_prompts (its opposite)")
        return not self.batch_prompts

    def fingerprint(self) -> str:
        """Return the fingerprint. See `Process.fingerprint`."""
        raise NotImplementedError

    def identity(self) -> str:
        """Deprecated name of `fingerprint`."""
        warn_renamed("Process.identity()", "Process.fingerprint()")
        return self.fingerprint()
