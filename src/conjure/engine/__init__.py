"""Execution of jobs: in this process, on Ray workers, and with a store that keeps results."""
