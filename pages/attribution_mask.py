"""What does a map leave of it? Recursive masking of the picture by its maps, and masked input accuracy of a set."""

from components.attribution_mask import mask_views, masked_accuracy, recursive_masking
from components.shell import frame

workspace = frame.enter()
mask_views.follow_moved()
view = mask_views.choose(workspace)
workspace = frame.need_network(workspace)
{mask_views.PICTURE: recursive_masking.draw, mask_views.SET: masked_accuracy.draw}[view](workspace)
