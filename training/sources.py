"""Where training pictures and words come from: packages at pinned versions and hashes, their licences and authors.

Share-alike and copyleft sets are left out, so that the weights stay free to use.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

REGISTRY = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org").rstrip("/")
DEBIAN = os.environ.get("DEBIAN_MIRROR", "https://deb.debian.org/debian").rstrip("/")


@dataclass(frozen=True)
class Source:
    """One npm package, or with a `pool` one of Debian: what it is, whose it is, and the hash that its archive must have.

    digest: SHA-512 in base64 for npm, as the registry gives it; SHA-256 in hex for Debian.
    """

    package: str
    version: str
    licence: str
    author: str
    digest: str
    pool: str = ""

    @property
    def folder(self) -> str:
        return self.package.split("/")[-1]

    @property
    def url(self) -> str:
        if self.pool:
            return f"{DEBIAN}/pool/main/{self.pool}/{self.package}_{self.version}_all.deb"
        return f"{REGISTRY}/{self.package}/-/{self.folder}-{self.version}.tgz"

    @property
    def page(self) -> str:
        if self.pool:
            return f"https://packages.debian.org/{self.package}"
        return f"https://www.npmjs.com/package/{self.package}"


EMOJI = (
    Source("@iconify-json/noto", "1.2.9", "Apache-2.0", "Google Inc",
           "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw=="),
    Source("@iconify-json/noto-v1", "1.2.5", "Apache-2.0", "Google Inc",
           "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA=="),
    Source("@iconify-json/fxemoji", "1.2.2", "Apache-2.0", "Mozilla",
           "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ=="),
    Source("@iconify-json/fluent-emoji", "1.2.7", "MIT", "Microsoft Corporation",
           "D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA=="),
    Source("@iconify-json/fluent-emoji-flat", "1.2.6", "MIT", "Microsoft Corporation",
           "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw=="),
    Source("@iconify-json/twemoji", "1.2.5", "CC-BY-4.0", "Twitter and other contributors",
           "uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw=="),
    Source("@iconify-json/emojione", "1.2.3", "CC-BY-4.0", "EmojiTwo",
           "T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg=="),
    Source("@iconify-json/streamline-emojis", "1.2.4", "CC-BY-4.0", "Streamline",
           "iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A=="),
)  # fmt: skip
ICONS = (
    Source("@iconify-json/streamline-ultimate-color", "1.2.2", "CC-BY-4.0", "Streamline",
           "NAbD3xLtg3069865B5CLUulp/eowPNCiDfJBxVAmA+LKLPpxU7EIEJ2+mSfWriPd+ahORWyqjRnoPVkTJopEgg=="),
    Source("@iconify-json/streamline-freehand-color", "1.2.2", "CC-BY-4.0", "Streamline",
           "ql3aN0gPHIClR74SkG89oykRB1LxmwhIWYDM425bVsoZRNhl2uHtNMmIs6CADrCcyhdNQwtieaj49BIT0Idu5A=="),
    Source("@iconify-json/flat-color-icons", "1.2.3", "MIT", "Icons8",
           "KcmJ7CY0TKFv5GuBjiS4/v++jEcNXna1jfY+yq014tnw/MN/jMI2oYpoMHGuIpYtUqDu7eove+WySnOYO8nS3w=="),
    Source("@iconify-json/fluent-color", "1.2.21", "MIT", "Microsoft Corporation",
           "VETjGx7BMpVsCR3HV5g5t6oBGZ92XKzIRClS5xUvDn1YHAkQTF9OyF/aFdtxYOC8JROoI1SNO/Ql6jZeK7mroA=="),
    Source("@iconify-json/meteocons", "1.2.4", "MIT", "Bas Milius",
           "E7YV02ql5WmJgAOpXU/hoF9Mdshq73KjwR6fBxZ5SrqMJghMa3CIcRG6NQGwP4I1uBOhIjOFlAikYoPAKuT56A=="),
)  # fmt: skip
CLIPART = Source("openclipart-svg", "0.18+dfsg-19", "public domain", "the artists of the Open Clip Art Library",
                 "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5", pool="o/openclipart")  # fmt: skip
PICTURES = (*EMOJI, *ICONS, CLIPART)
NAMES = Source("emojibase-data", "17.0.0", "MIT", "Miles Johnson",
               "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==")  # fmt: skip
WORDNET = Source("wordnet-base", "3.0-37", "WordNet 3.0 licence", "Princeton University",
                 "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752", pool="w/wordnet")  # fmt: skip


def download(source: Source, cache: Path) -> Path:
    """The unpacked package of `source` under `cache`; an archive whose hash is another is refused."""
    folder = cache / f"{source.folder}-{source.version}"
    if not folder.exists():
        archive = urllib.request.urlopen(source.url, timeout=120).read()
        npm = base64.b64encode(hashlib.sha512(archive).digest()).decode()
        got = hashlib.sha256(archive).hexdigest() if source.pool else npm
        if got != source.digest:
            raise ValueError(f"{source.url} has the hash {got}, but {source.digest} is pinned")
        partial = folder.with_suffix(".partial")
        with tarfile.open(fileobj=io.BytesIO(_data_of(archive) if source.pool else archive)) as tar:
            tar.extractall(partial, filter="data")
        partial.rename(folder)  # last, so that a stopped download is not taken for a whole one
    return folder if source.pool else folder / "package"


def _data_of(archive: bytes) -> bytes:
    """The files of a Debian package: the member `data.tar.*` of an ar archive."""
    at = 8  # after the magic
    while at < len(archive):
        name, size = archive[at : at + 16].decode().strip(), int(archive[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return archive[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise ValueError("the Debian package has no data")
