"""What if it saw only that? Recursive masking of the picture, masked input accuracy of a set, and being the mask oneself."""

from components import be_the_mask, frame, mask_views, masked_accuracy, masking

workspace = frame.enter()
view = mask_views.choose(workspace)
frame.need_network(workspace)
{mask_views.PICTURE: masking.draw, mask_views.SET: masked_accuracy.draw, mask_views.PLAY: be_the_mask.draw}[view](workspace)
