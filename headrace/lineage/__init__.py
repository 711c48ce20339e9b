"""What a prediction came from, and what came from an event, a model, a training snapshot or a subject."""
