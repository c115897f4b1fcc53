"""Where did it look? The chosen methods' maps of one picture, side by side."""

from components.compare import auxiliary, exports, maps, overview
from components.compute import method_row
from components.drawing import display_controls
from components.shell import frame

workspace = frame.enter()
frame.heading("Where did it look?", workspace.sentence if workspace else "")
workspace = frame.need_network(workspace)
overview.draw(workspace)
row = method_row.draw(workspace)
display = display_controls.draw()
answered = maps.draw(workspace, row, display)
exports.draw(workspace, answered, display)
auxiliary.draw(workspace, answered, display)
