"""Where did it look? The chosen methods' maps of one picture, side by side."""

from components.compare import auxiliary, evidence, exports, maps, overview
from components.compute import method_row
from components.drawing import display_controls
from components.shell import frame

ABOUT = ("See which parts of a picture an image classifier used for its answer, as heatmaps (attribution maps), and test which of "
         "them to believe. For researchers, speakers and domain experts; everything runs on this machine.")

workspace = frame.enter()
frame.heading("Where did it look?", workspace.sentence if workspace else "", ABOUT)
workspace = frame.need_network(workspace)
overview.draw(workspace)
row = method_row.draw(workspace, with_drafts=True)
display = display_controls.draw()
answered = maps.draw(workspace, row, display)
findings = evidence.draw(workspace, answered)
exports.draw(workspace, answered, display, findings)
auxiliary.draw(workspace, answered, display)
