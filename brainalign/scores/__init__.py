"""How well one system predicts another, and how well it could."""
