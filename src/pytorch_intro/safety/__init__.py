"""Configs from elsewhere."""
