"""Settings that several scripts of the recipe share."""

from __future__ import annotations

from pathlib import Path

TRAINING_FOLDER = Path(__file__).parent
CACHE_FOLDER = TRAINING_FOLDER / "cache"  # downloads, rendered drawings, latents and caption embeddings
RUNS_FOLDER = TRAINING_FOLDER / "runs"  # checkpoints and loss curves, one folder per stage
RESULTS_FOLDER = TRAINING_FOLDER.parent / "results"

IMAGE_SIZE = 64  # pixels per side
