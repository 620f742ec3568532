"""Help with prompts: advice about their wording, and house templates."""
