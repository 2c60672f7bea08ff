"""The app as a Hugging Face Space: the default model, on whatever machine the Space has."""

import os

from conjure.app import Service, serve

serve(Service(), host=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
