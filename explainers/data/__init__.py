"""Generated pictures with known content (scenes and digits), sets of images for methods and metrics, and training on them."""
