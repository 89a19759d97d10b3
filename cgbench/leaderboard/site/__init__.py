"""The static site of a leaderboard: plain files that work from anywhere and ask for nothing."""

from cgbench.leaderboard.site.build import MANIFEST, SiteOutcome, build_site
from cgbench.leaderboard.site.serve import make_server, serve

__all__ = ["MANIFEST", "SiteOutcome", "build_site", "make_server", "serve"]
