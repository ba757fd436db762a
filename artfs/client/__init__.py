import artfs.plainhttpx  # noqa: F401  (before any of these modules imports httpx)
