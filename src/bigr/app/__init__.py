"""The web app: ``actions`` does what the buttons ask for, ``page`` is the page, in Gradio."""
