"""HTML fragments of the web app. Texts of visitors are data: they are escaped wherever they are shown."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from conjure.divergence.estimates import Estimate
from conjure.divergence.reference_scale import NO_SIMILARITY
from conjure.explanation.explain import Explanation
from conjure.explanation.images import counted_trajectories
from conjure.io.csv_files import csv_text
from conjure.io.documents import data_uri
from conjure.io.formatting import pluralize
from conjure.io.text import printable, quote_and_wrap
from conjure.plotting.images import encode_image, mosaic
from conjure.plotting.output import figure_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

MAX_ROW_WIDTH = 1280  # pixels of a row of images, one image per step
MIN_IMAGE_SIDE = 32

# In the app, a page begins where the other elements do, and is as wide as they are
EMBEDDED_STYLE = "<style>body { max-width: none; margin: 0; padding: 0 }</style>"
# The sandbox of an iframe separates it from the app. So the page within it has to report its height, which the app then applies.
REPORT_HEIGHT_JS = """<script>
new ResizeObserver(() => parent.postMessage({height: document.documentElement.getBoundingClientRect().height}, "*"))
  .observe(document.documentElement);
</script>"""
# A link to save a page writes the result, which the document contains already, to a file without the server
PAGE_JS = """<script>
addEventListener("message", ({data, source}) => {
  const frame = [...document.querySelectorAll("iframe.page")].find(iframe => iframe.contentWindow === source);
  if (frame && data?.height > 0 && data.height < 1e5) frame.style.height = `${Math.ceil(data.height)}px`;
});
addEventListener("click", event => {
  const link = event.target.closest?.("a.save-page");
  const frame = link?.closest("[role=tabpanel]")?.querySelector("iframe.page");
  if (!frame) return;
  event.preventDefault();
  const address = URL.createObjectURL(new Blob([frame.srcdoc], {type: "text/html"}));
  Object.assign(document.createElement("a"), {href: address, download: link.dataset.name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
});
</script>"""

NO_RUNS_HTML = (
    "<p>There are no finished runs. <code>conjure bench --out FOLDER/NAME</code> writes one, and "
    "<code>conjure app --runs FOLDER</code> lists it here after a reload of this page.</p>"
)


def distance(estimate: Estimate, warnings: Sequence[str]) -> str:
    """Return a distance with its interval, its number of samples so far, and warnings about the texts."""
    return (
        f'<p style="font-size:1.3rem;font-weight:600;margin:0">{html.escape(str(estimate))}</p>'
        f"<p>{html.escape(estimate.divergence)}, {html.escape(estimate.unit)}; "
        f"{pluralize(len(estimate.samples), 'sample')} so far</p>"
        f"<p>{html.escape(NO_SIMILARITY if estimate.similarity is None else estimate.similarity.sentence)}</p>{notes(warnings)}"
    )


def notes(warnings: Sequence[str]) -> str:
    """Return one paragraph per warning about the texts."""
    return "".join(f"<p>Note: {html.escape(printable(warning))}</p>" for warning in warnings)


def trajectory_grid(explanation: Explanation) -> str:
    """Return the images decoded so far: for each trajectory the noisy images, between the predicted images for the two texts."""
    figures = []
    for images in counted_trajectories(explanation.estimate, explanation.sample_images[0]):
        rows = np.stack([images.x0_first, images.x_t, images.x0_second])
        grid = mosaic(rows, largest=images.longest_side(max(MIN_IMAGE_SIDE, MAX_ROW_WIDTH // len(images.x_t))))
        figures.append(
            '<figure style="margin:.5rem 0">'
            f"<figcaption>along the trajectory of {html.escape(quote_and_wrap(images.text, 60))}</figcaption>"
            '<img style="width:100%;image-rendering:pixelated" alt="noisy images, and the predicted images for both texts" '
            f'src="{encode_image(grid)}"></figure>'
        )
    return "".join(figures)


def frame_csv(frame: DataFrame) -> str:
    """Return a data frame as comma-separated values."""
    return csv_text([frame.columns, *frame.itertuples(index=False)])


def page_downloads(name: str, csv: str, figure: Figure | None = None) -> str:
    """Return links to the page of an answer, its numbers and its figure.

    Args:
        name: The name of the files.
        csv: The numbers.
        figure: The figure.
    """
    links = [f'<a class="save-page" href="#" data-name="{name}.html">HTML</a>', csv_link(name, csv)]
    if figure is not None:
        links.append(png_link(name, data_uri(figure_bytes(figure, "png"), "png")))
    return downloads(*links)


def downloads(*links: str) -> str:
    """Return a paragraph with links."""
    return f"<p>Download: {' · '.join(links)}</p>"


def png_link(name: str, address: str) -> str:
    """Return a link to an image, whose data URI is `address`."""
    return f'<a download="{name}.png" href="{address}">PNG</a>'


def csv_link(name: str, csv: str) -> str:
    """Return a link to comma-separated values, which it contains."""
    return f'<a download="{name}.csv" href="data:text/csv;charset=utf-8,{quote(csv)}">CSV</a>'


def iframe(page: str) -> str:
    """Return a sandboxed iframe with an HTML page, which takes the height of the page."""
    return (
        '<iframe class="page" sandbox="allow-scripts" title="result" '
        'style="width:100%;border:0;color-scheme:light dark;background:Canvas" '
        f'srcdoc="{html.escape(page + EMBEDDED_STYLE + REPORT_HEIGHT_JS)}"></iframe>'
    )


def side_by_side(parts: Sequence[str]) -> str:
    """Return parts beside each other, or below each other where the window is narrow."""
    columns = "repeat(auto-fit, minmax(min(100%, 28rem), 1fr))"
    cells = "".join(f"<div>{part}</div>" for part in parts)
    return f'<div style="display:grid;gap:1rem;grid-template-columns:{columns}">{cells}</div>'
