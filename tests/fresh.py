"""Code in a fresh interpreter, with genhub or without it."""

import os
import subprocess
import sys


def run(code: str, env: dict[str, str] | None = None, without_genhub: bool = False) -> str:
    """Runs `code` in a fresh interpreter and returns what it printed."""
    env = dict(os.environ if env is None else env) | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    if without_genhub:
        env.pop("PYTHONPATH", None)
        code = "import sys\nsys.modules['genhub'] = None  # an import of it fails\n" + code
    else:
        env["PYTHONPATH"] = os.environ["PYTHONPATH"]
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout
