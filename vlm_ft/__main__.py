"""``python -m vlm_ft`` is the command ``vlm-ft``."""

from vlm_ft.cli import main

main()
