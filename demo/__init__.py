"""The app: a photo or a text in, a typed answer out. No figures about its use are sent anywhere."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # Gradio reads it while it is imported
