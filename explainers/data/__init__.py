"""Pictures made by the package itself, whose truth is known: scenes, digits, and the networks trained on them."""
