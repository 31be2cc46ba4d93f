"""Transfer of backbones to other data: heads on features and on feature maps."""
