"""The web app: ``actions`` does the work of the buttons, and ``page`` builds the page in Gradio."""
