"""A VAST DB server for tests: it speaks the wire protocol of VAST DB 5.4 and 5.5 to the real `vastdb` SDK."""

from tests.vast_emulator.counts import Tally
from tests.vast_emulator.emulator import Emulator, EmulatorProcess
from tests.vast_emulator.faults import Fault
from tests.vast_emulator.options import Options

__all__ = ["Emulator", "EmulatorProcess", "Fault", "Options", "Tally"]
