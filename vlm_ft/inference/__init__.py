"""From images and texts to `Prediction`s."""
