"""References: entries of an artifact whose bytes live elsewhere. `router.References` is the way in."""

import artfs.plainhttpx  # noqa: F401  (before any of these modules imports httpx)
