"""How pictures are judged: readers of text, held-out lists, figures."""
