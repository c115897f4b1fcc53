"""Does the map follow an attack? The picture is changed a little so that its class is lost, and both pictures are explained."""

from components.adversarial_attack import attack_choice, attack_run, before_after, map_rows
from components.shell import frame

workspace = frame.enter()
frame.heading("Does the map follow an attack?", "The picture is changed so little that a person hardly sees it, until the network "
              "loses its class. Each method then explains both pictures.")
workspace = frame.need_network(workspace)
choice = attack_choice.draw(workspace)
attack = attack_run.run(workspace, choice)
before_after.draw(workspace, choice, attack)
map_rows.draw(workspace, attack)
