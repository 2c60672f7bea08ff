"""Progress of a comparison, whose parts run one after the other."""

from __future__ import annotations

from collections.abc import Callable

from conjure.diffusion.jobs import ProgressCallback


class Progress:
    """Counts denoising steps, summed over jobs.

    Args:
        callback: Called after every step.
        total: The number of steps of all parts.
    """

    def __init__(self, callback: ProgressCallback | None, total: int) -> None:
        self._callback = callback
        self._total = total
        self._done = 0

    def start_batch(self, jobs: int) -> Callable[[int], None]:
        """Return the function to call with the number of finished steps of a batch of jobs.

        A batch that is run again, since it did not fit into the memory, counts once.
        """
        start = self._done

        def advance(steps: int) -> None:
            self.report(start + steps * jobs)

        return advance

    def start_part(self) -> ProgressCallback:
        """Return the callback of a part that counts its own steps. The total of that part is not used."""
        start = self._done
        return lambda done, _: self.report(start + done)

    def report(self, done: int) -> None:
        """Report the number of finished steps."""
        self._done = done
        if self._callback:
            self._callback(min(done, self._total), self._total)
