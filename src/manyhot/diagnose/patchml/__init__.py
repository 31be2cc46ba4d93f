"""Images composed of objects cut out of photographs."""
