"""What several tests share: paths, small networks, threads that fail their test, Captum's maps, the reader of imports."""
