"""Does the map follow the class? The same picture explained for several classes, method by method, and how far the maps are apart."""

from components.class_sensitivity import class_choice, class_set, map_rows
from components.shell import frame

workspace = frame.enter()
frame.heading("Does the map follow the class?", "Each method explains the same picture for different classes. A map that stays "
              "the same whatever the class shows the picture, and not the decision.")
workspace = frame.need_network(workspace)
choice = class_choice.draw(workspace)
map_rows.draw(workspace, choice)
class_set.draw(workspace, choice)
