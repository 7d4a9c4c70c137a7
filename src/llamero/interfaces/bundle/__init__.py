"""Bundles: one program file with engine, page and weights. What they are made of, how they are made, their inside."""
