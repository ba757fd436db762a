"""artfsd over a state folder on a recording disk (recording_disk.py).

    python disk_daemon.py HOME MOUNTPOINT … (as artfsd)
"""

import sys

from artfs.testing.recordingdisk import live_on_recording_disk
from artfsd.__main__ import main

HOME = sys.argv[1]

live_on_recording_disk(lambda: HOME)
del sys.argv[1]
sys.exit(main())
