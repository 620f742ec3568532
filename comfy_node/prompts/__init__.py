"""Help with prompts: advice on their wording, and house templates."""
