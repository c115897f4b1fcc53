"""What if it saw only that? Recursive masking of the picture, masked input accuracy of a set, and being the mask oneself."""

from components.attribution_mask import be_the_mask, mask_views, masked_accuracy, recursive_masking
from components.shell import frame

workspace = frame.enter()
view = mask_views.choose(workspace)
workspace = frame.need_network(workspace)
{mask_views.PICTURE: recursive_masking.draw, mask_views.SET: masked_accuracy.draw, mask_views.PLAY: be_the_mask.draw}[view](workspace)
