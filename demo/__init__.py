"""The app: it gives typed answers about photos and texts, and sends no usage statistics."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # Gradio reads this when it is imported
