"""What is each method? A card for every method and metric, from its own declaration."""

from components.methods import cards
from components.shell import frame

workspace = frame.enter()
frame.heading("What is each method?", "Every card is what the method declares of itself; costs are for the chosen network.")
cards.draw(workspace)
