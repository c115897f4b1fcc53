"""Does the map follow the weights? They are randomised, stage by stage, and every method explains what is left of the network."""

from components.sanity_checks import filmstrip, randomisation, report, step_rows, weight_curves
from components.shell import frame

workspace = frame.enter()
frame.heading("Does the map follow the weights?",
              "Weights are re-initialised, and each method explains what is left of the network. A map that stays as it was does not "
              "show what the network learned.")
workspace = frame.need_network(workspace)
choice = randomisation.draw(workspace)
steps = step_rows.StepRows(step_rows.original_maps(workspace), choice)
measure, display = report.view()
rows = filmstrip.draw(workspace, steps, measure, display)
report.verdicts(choice, rows)
report.table(choice, rows)
weight_curves.draw(choice, rows, measure)
filmstrip.compare_in_detail(workspace, choice, rows, display)
report.offer_downloads(workspace, choice, rows, display)
