"""A Hugging Face Space with the web app of BiGR-Lightning; see the README beside this file."""

from __future__ import annotations

import os
import sys

from bigr.demo import main


def arguments() -> list[str]:
    """Return the settings of the app: the model, and the names under which the Space is served."""
    return [
        f"pretrained={os.environ.get('BIGR_MODEL', 'digits')}",
        "host=0.0.0.0",
        f"port={os.environ.get('PORT', '7860')}",
        f"allowed_hosts=[{os.environ.get('SPACE_HOST', 'localhost')}]",
        "embedded_in=['https://huggingface.co']",  # whose page shows the Space in a frame
    ]


if __name__ == "__main__":
    sys.argv[1:] = arguments()
    main()
