"""The stages of the pipeline, one verb a file: read artefacts, call the library, write artefacts."""

import os
import signal
import sys

# One thread for numpy's matrix products: the last bits of a result may depend on the number of threads, and stages run
# side by side anyway (see stages.repro). Networks have their own number of threads, the parameter machine.threads.
# Set here, before any stage imports numpy.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"


def end_with_parent() -> None:
    """Have the kernel kill this process as soon as the one that started it is gone; on Linux alone.

    A stage that outlives its `dvc` could write its output after another run has put a different one there.
    """
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


# An interrupt while a stage still imports its libraries ends it without a traceback; `stages.command.run` listens from
# then on. Python calls itself "-m" until the module that was asked for begins.
if sys.argv[:1] == ["-m"]:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if "DVC_STAGE" in os.environ:
        end_with_parent()
