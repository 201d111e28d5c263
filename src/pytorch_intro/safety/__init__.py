"""Verify configs from sources that are not trusted."""
