"""Which licences let everybody use a work commercially, as a table; what is not in it is taken not to."""

from __future__ import annotations

COMMERCIAL = "commercial"

# Identifiers of SPDX, in lower case. All of them have conditions (attribution, the same licence for what is derived),
# none of them a limit on who may use the work and for what.
ALLOWING = frozenset(
    {
        *("apache-2.0", "mit", "mit-0", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "ncsa"),
        *("0bsd", "unlicense", "cc0-1.0", "bsl-1.0", "python-2.0", "psf-2.0", "afl-3.0", "artistic-2.0", "ecl-2.0"),
        *("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
        *("cdla-permissive-1.0", "cdla-permissive-2.0", "odc-by-1.0", "pddl-1.0"),
        *("mpl-2.0", "epl-2.0", "eupl-1.2", "lgpl-2.1", "lgpl-2.1-only", "lgpl-2.1-or-later"),
        *("lgpl-3.0", "lgpl-3.0-only", "lgpl-3.0-or-later", "gpl-2.0", "gpl-2.0-only", "gpl-2.0-or-later"),
        *("gpl-3.0", "gpl-3.0-only", "gpl-3.0-or-later", "agpl-3.0", "agpl-3.0-only", "agpl-3.0-or-later"),
    }
)


def matches(terms: str, wanted: str) -> bool:
    """Whether a licence is the wanted one, or one of the wanted kind, "commercial". Case does not matter."""
    terms, wanted = terms.strip().casefold(), wanted.strip().casefold()
    return terms in ALLOWING if wanted == COMMERCIAL else terms == wanted
