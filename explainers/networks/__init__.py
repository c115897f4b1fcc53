"""What a classifier is, and the families of networks that can become one."""
