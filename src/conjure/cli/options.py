"""Options that several commands share, as annotated types."""

from __future__ import annotations

from typing import Annotated

import typer

from conjure.cli.completion import complete_divergence, complete_model, complete_scheduler, complete_tasks
from conjure.errors import InputError

Model = Annotated[
    str,
    typer.Option(
        help="Model: default, a folder in diffusers format, or a Hub name (owner/name@revision).", autocompletion=complete_model
    ),
]
Variant = Annotated[
    str | None,
    typer.Option(help="Variant of the weight files, such as fp16. Without this option: the default files, or the only variant."),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE_OR_NAME[:WEIGHT]",
        help="LoRA: a .safetensors file, a folder with one, or a name on the Hub (owner/name or owner/name/FILE, with or without "
        "@revision). WEIGHT scales its effect; without it, 1. Repeatable. Without this option: those of a saved process.",
        show_default=False,
    ),
]
TextualInversion = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Textual inversion: a .safetensors file with the embedding of a token; repeatable.",
        show_default=False,
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(help="Type of the denoiser's weights: int8 or int4 (needs optimum-quanto, or torchao for int8)."),
]
Offload = Annotated[
    str | None,
    typer.Option(
        help="Keep weights on the CPU while the GPU does not need them: model (whole networks), group (single layers) or "
        "sequential (single layers, slowest). It saves memory and changes no number."
    ),
]
NegativePrompt = Annotated[
    str | None, typer.Option(help="Text that guidance leads away from, for all texts.", show_default=False)
]
Steps = Annotated[
    int | None,
    typer.Option(min=1, help="Number of denoising steps T. Without this option: the model's stored number, or 10."),
]
Guidance = Annotated[
    float | None, typer.Option(min=0, help="Scale of classifier-free guidance. Without this option: the model's default scale.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_scheduler,
        help="Scheduler: lms, ddim, euler, ..., or own for the model's own. "
        "Without this option: lms where it supports the model (which predicts epsilon, v or x0), otherwise own.",
    ),
]
Height = Annotated[int | None, typer.Option(help="Image height in pixels. Without this option: the model's default height.")]
Width = Annotated[int | None, typer.Option(help="Image width in pixels. Without this option: the model's default width.")]
Frames = Annotated[int | None, typer.Option(min=1, help="Number of frames of a video. Without this option: the model's default.")]
FrameRate = Annotated[
    float | None,
    typer.Option(help="Frames per second, for models that take a frame rate. Without this option: the model's default."),
]
Seconds = Annotated[
    float | None, typer.Option(help="Length of a sound in seconds. Without this option: the model's default length.")
]
Device = Annotated[str | None, typer.Option(help="Device: cpu, cuda or mps. Without this option: the fastest available device.")]
Dtype = Annotated[
    str | None, typer.Option(help="Data type of the weights: float32, float16 or bfloat16. Without this option: float32.")
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Compile the denoiser: slower start, faster long runs. By default, runs on CUDA of more than two minutes do.",
        show_default=False,
    ),
]

NumSamples = Annotated[int, typer.Option(help="Number of Monte-Carlo samples k.")]
NumSamplesWithError = Annotated[
    int, typer.Option(help="Number of Monte-Carlo samples k; a confidence interval needs at least 2.")
]
Seed = Annotated[int, typer.Option(help="Seed of the noise.")]
Divergence = Annotated[
    str, typer.Option(help="Divergence: jeffreys, kl, initial, final or direct.", autocompletion=complete_divergence)
]
Weighting = Annotated[str, typer.Option(help="Weighting of the steps: uniform, as in the paper, or girsanov, in nats.")]
Unit = Annotated[
    str | None,
    typer.Option(
        help="Unit of the uniform weighting: output, epsilon, x0, score or velocity. Without this option: the model's default."
    ),
]
Antithetic = Annotated[
    bool,
    typer.Option(
        "--antithetic", help="Start the two texts of a pair from opposite noise: smaller error at nearly the same cost."
    ),
]

Tasks = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete_tasks,
        help="Names of datasets separated by commas, such as stsb,sickr, or paper-table-1. "
        "Without this option: the nine datasets of the paper (Tables 1 and 2).",
        show_default=False,
    ),
]
DataPath = Annotated[
    str | None,
    typer.Option(
        help="Folder of datasets, or a file of pairs (.tsv, .csv, .jsonl, .parquet). "
        "Without this option: the Hugging Face Hub, which has only the STS datasets and sickr-all."
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        help="Columns of the file of pairs: first texts, second texts and scores, as in text1,text2,score. "
        "Without this option: known names of columns.",
        show_default=False,
    ),
]
MaxFileMB = Annotated[
    int, typer.Option("--max-file-mb", min=1, help="Largest size of a file of texts, in MB; larger files are refused.")
]
MaxPairs = Annotated[
    int | None, typer.Option("--max-pairs", help="Use only the first pairs of a dataset or table, at most this many.")
]
Shuffle = Annotated[
    int | None,
    typer.Option(
        metavar="SEED", help="With --max-pairs: use random pairs instead of the first ones, chosen with this seed.", min=0
    ),
]
RawTexts = Annotated[
    bool,
    typer.Option(
        "--raw-texts",
        help="In comma-separated values: do not put an apostrophe before texts that a spreadsheet would run as formulas.",
    ),
]
RunFolder = Annotated[
    str | None,
    typer.Option(
        help="Output folder of the run; the same command resumes it. "
        "Without this option: a folder named after the fingerprint of the process."
    ),
]

StorePath = Annotated[
    str | None,
    typer.Option(
        "--store", envvar="CONJURE_STORE", help="File of stored results, which commands can share; stored results are reused."
    ),
]
NumWorkers = Annotated[
    int | None,
    typer.Option("--workers", help="Number of worker processes (needs Ray): one per GPU, or one per core.", show_default=False),
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray", envvar="CONJURE_RAY", help="Address of a Ray cluster, such as auto.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def parse_fraction(text: str, option: str) -> float:
    """Return the value of an option that is a fraction or a percentage: 0.05 for `0.05` and for `5%`.

    Args:
        text: The value.
        option: The name of the option, for the message.

    Raises:
        InputError: If the value is no number between 0 and 1, and no percentage between 0% and 100%.
    """
    number = text.strip()
    is_percentage = number.endswith("%")
    try:
        fraction = float(number.removesuffix("%")) / (100 if is_percentage else 1)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction < 1:  # also if it is NaN
        raise InputError(f"{option} is {text!r}; must be a fraction between 0 and 1, or a percentage: 0.05 and 5% are the same")
    return fraction
