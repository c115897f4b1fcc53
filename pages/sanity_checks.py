"""Does the map follow the weights? They are drawn anew, stage by stage, and every method explains what is left."""

from components.sanity_checks import checks, filmstrip, sanity_report, weight_curves
from components.shell import frame

workspace = frame.enter()
frame.heading("Does the map follow the weights?",
              "Weights are drawn anew, and each method explains what is left of the network. A map that stays as it was does not show "
              "what the network learned.")
frame.need_network(workspace)
question = checks.controls(workspace)
jobs = checks.maps(workspace)
measure, display = sanity_report.view()
rows = filmstrip.draw(workspace, question, checks.rows(workspace, question, jobs), measure, display)
sanity_report.verdicts(question, rows)
sanity_report.table(question, rows)
weight_curves.draw(question, rows, measure)
filmstrip.closely(workspace, question, rows, display)
sanity_report.downloads(workspace, question, rows, display)
