"""Does the network agree? The maps are put to the test: what happens when the pixels that they point at come and go."""

from components.compute import method_row
from components.faithfulness import measurements
from components.shell import frame

workspace = frame.enter()
frame.heading("Does the network agree?", "A map says which pixels count. Here the network is shown those pixels, and denied them.")
workspace = frame.need_network(workspace)
row = method_row.draw(workspace, with_controls=True, with_drafts=True)
measurements.draw(workspace, row.run())
