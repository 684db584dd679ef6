"""Making packs: from folders of photographs, from drawings, and from other packs."""
