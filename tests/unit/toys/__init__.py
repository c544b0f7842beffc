"""A probe and a kind that are no part of the product, each one file in a folder of its own."""
