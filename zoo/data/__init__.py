"""Videos with labels, for training and evaluation: their listing, what is wrong with them, how they are split."""

from __future__ import annotations

from zoo.data.checks import Report, check
from zoo.data.listing import Listing, Sample, digest_of, read_listing
from zoo.data.splitting import split

__all__ = ["Listing", "Report", "Sample", "check", "digest_of", "read_listing", "split"]
