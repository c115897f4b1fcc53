"""Where did it look? The chosen methods' maps of one picture, side by side."""

from components import comparison, display_controls, exports, extras, frame, overview

workspace = frame.enter()
frame.heading("Where did it look?", workspace.question)
frame.need_network(workspace)
overview.draw(workspace)
planned, cost_lines = comparison.settings(workspace)
display = display_controls.draw()
jobs = comparison.maps(workspace, planned, cost_lines, display)
exports.draw(workspace, jobs, display)
extras.draw(workspace, jobs, display)
