"""The web app: ``actions`` is what the buttons do, ``page`` is what is seen, in Gradio."""
