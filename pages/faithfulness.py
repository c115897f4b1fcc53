"""Does the network agree? What its prediction becomes when the pixels that a map points at are shown or hidden."""

from components.compute import method_row
from components.faithfulness import measurements
from components.shell import frame

workspace = frame.enter()
frame.heading("Does the network agree?", "A map says which pixels count. Here the network is shown those pixels first (insertion), or "
              "loses them first (deletion).")
workspace = frame.need_network(workspace)
row = method_row.draw(workspace, with_controls=True, with_drafts=True)
measurements.draw(workspace, row.run())
