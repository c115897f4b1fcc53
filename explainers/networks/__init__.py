"""Classifiers, and the families of networks that they can be made of."""
