"""Does the map follow the weights? They are drawn anew, stage by stage, and every method explains what is left."""

from components import filmstrip, frame, sanity_checks, sanity_report, weight_curves

workspace = frame.enter()
frame.heading("Does the map follow the weights?",
              "Weights are drawn anew, and each method explains what is left of the network. A map that stays as it was does not show "
              "what the network learned.")
frame.need_network(workspace)
question = sanity_checks.controls(workspace)
jobs = sanity_checks.maps(workspace)
measure, display = sanity_report.view()
rows = filmstrip.draw(workspace, question, sanity_checks.rows(workspace, question, jobs), measure, display)
sanity_report.verdicts(question, rows)
sanity_report.table(question, rows)
weight_curves.draw(question, rows, measure)
filmstrip.closely(workspace, question, rows, display)
sanity_report.downloads(workspace, question, rows, display)
