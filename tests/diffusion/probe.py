import sys, tempfile, time, json, warnings
import conjure
from conjure.diffusion import fingerprint as f
from conjure.diffusion.code_state import Describer
from tiny_pipelines import FAMILIES


def diff(a, b, path=""):
    if type(a) != type(b):
        print("   ", path, str(a)[:150], "|", str(b)[:150])
        return
    if isinstance(a, dict):
        for k in {**a, **b}:
            if k not in a or k not in b:
                print("   ", path, k, "only one", str(a.get(k, b.get(k)))[:100])
            else:
                diff(a[k], b[k], path + "/" + str(k))
    elif isinstance(a, list):
        if len(a) != len(b):
            print("   ", path, "len", str(a)[:150], "|", str(b)[:150])
            return
        for i, (x, y) in enumerate(zip(a, b)):
            diff(x, y, path + "/" + (str(x[0]) if isinstance(x, list) and x and isinstance(x[0], str) else str(i)))
    elif a != b:
        print("   ", path, str(a)[:150], "|", str(b)[:150])


def st(p):
    return json.loads(f._cached_fingerprints[p].state[0])


for name, fam in FAMILIES.items():
    if len(sys.argv) > 1 and sys.argv[1] not in name:
        continue
    try:
        pipe = fam.build()
        proc = conjure.load(pipe, steps=1, **fam.settings)
        t = time.time()
        a = proc.fingerprint()
        t1 = time.time()
        proc.fingerprint()
        t2 = time.time()
        sa = st(pipe)
        u = f._cached_fingerprints[pipe].unknown
        print(name, round(t1 - t, 3), round(t2 - t1, 3), u[:3])
        with tempfile.TemporaryDirectory() as d:
            pipe.save_pretrained(d)
            other = conjure.load(d, steps=1, **fam.settings)
            b = other.fingerprint()
            if a != b:
                print("  saved differs")
                diff(sa, st(other.pipeline))
        conjure.distance(proc, "a", "b", samples=1) if name != "x" else 0
        c = proc.fingerprint()
        if a != c:
            print("  run differs")
            diff(sa, st(pipe))
    except Exception as e:
        print(name, "ERR", type(e).__name__, str(e)[:300])
