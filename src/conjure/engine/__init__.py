"""Execution of jobs: in the current Python process or on Ray workers, with a store of results."""
