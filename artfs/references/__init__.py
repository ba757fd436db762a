"""References: entries of an artifact whose bytes live elsewhere. `router.References` is the way in."""
