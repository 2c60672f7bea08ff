"""The web app as a Hugging Face Space, with the default model on the hardware of the Space."""

import os

from conjure.app.service import Service
from conjure.app.ui import serve

os.environ.setdefault("FORWARDED_ALLOW_IPS", "*")  # the proxy of the Space writes the visitor's address into a header

serve(Service(), host=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
