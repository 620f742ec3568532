"""Drawing: what posters show, how their letters are set, and how they are painted."""
