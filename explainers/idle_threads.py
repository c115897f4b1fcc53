"""How torch's threads wait for one another. This file must be imported before torch, which reads the setting when it is loaded.

By default a thread that has done its part of a layer spins until the others have done theirs. While any other program uses a core,
such as the browser, the others wait for a core that the spinning thread holds, and a pass takes several times as long. PASSIVE makes
it sleep, which costs nothing measurable on an idle machine. What a person has set (also GOMP_SPINCOUNT, which goes before) stays.
Where torch was imported first, this comes too late: then OMP_WAIT_POLICY=PASSIVE must be in the environment of the process.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
