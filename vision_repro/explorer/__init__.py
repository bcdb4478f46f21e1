"""One HTML page on which a person walks over a model's attention."""
