"""What if it saw only that? A person shows and hides parts of the picture, and the network answers at once."""

from components.be_the_mask import playing
from components.shell import frame

workspace = frame.enter()
frame.heading("What if it saw only that?", playing.sentence(workspace) if workspace else "")
workspace = frame.need_network(workspace)
playing.draw(workspace)
