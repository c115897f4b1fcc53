"""Does the network agree? The maps are put to the test: what happens when the pixels that they point at come and go."""

from components import faithfulness, frame

workspace = frame.enter()
frame.heading("Does the network agree?", "A map says which pixels count. Here the network is shown those pixels, and denied them.")
frame.need_network(workspace)
jobs = faithfulness.maps(workspace)
faithfulness.draw(workspace, jobs)
