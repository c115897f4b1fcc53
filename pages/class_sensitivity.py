"""Does the map follow the class? The same picture explained for several classes, method by method, and how far the maps are apart."""

from components import class_choice, class_sensitivity, class_set, frame

workspace = frame.enter()
frame.heading("Does the map follow the class?", "Each method explains the same picture for different classes. A map that stays "
              "the same whatever the class shows the picture, and not the decision.")
frame.need_network(workspace)
choice = class_choice.draw(workspace)
class_sensitivity.draw(workspace, choice)
class_set.draw(workspace, choice)
