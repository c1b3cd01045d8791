"""Bothways under other frameworks' interfaces: a module each, which needs that framework and nothing else does."""
