# %%
"""PyTorch in 20 chapters: python src/tour.py --help. In an editor that supports cells, run them one by one."""

import os
import signal
import sys

if sys.argv[0].endswith("tour.py"):  # Ctrl-C; a notebook has its own way
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

from pytorch_intro.tour.guide import Tour

tour = Tour(__name__)

# %% 1. Datasets
tour.chapter(1)

# %% 2. Devices
tour.chapter(2)

# %% 3. Moving to a device
tour.chapter(3)

# %% 4. Tensors and arrays
tour.chapter(4)

# %% 5. Tensors in memory
tour.chapter(5)

# %% 6. A dataset and a loader
tour.chapter(6)

# %% 7. Options of a dataset
tour.chapter(7)

# %% 8. A dataset of your own
tour.chapter(8)

# %% 9. Batches
tour.chapter(9)

# %% 10. Transforms
tour.chapter(10)

# %% 11. Networks and layers
tour.chapter(11)

# %% 12. One training step
tour.chapter(12)

# %% 13. The same with Lightning
tour.chapter(13)

# %% 14. Saving and loading
tour.chapter(14)

# %% 15. The environment
tour.chapter(15)

# %% 16. Train a network, and see what it looks at
tour.chapter(16)

# %% 17. Look at your data first
tour.chapter(17)

# %% 18. Fine-tuning on your own photographs
tour.chapter(18)

# %% 19. Is it really better?
tour.chapter(19)

# %% 20. From a run to a web page
tour.chapter(20)
