"""Pictures and titles become vectors and word pieces."""
