"""e2e-export.py FILE.db FILE.json: do both exports of a store tell the same?"""

import json
import sqlite3
import sys

db = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True)
with open(sys.argv[2], encoding="ascii") as file:
    document = json.load(file)

failed = 0


def same(what, want, have):
    global failed
    if want != have:
        failed += 1
        print("%s: the tables say %.400r, the document %.400r" % (what, want, have))


def rows(query):
    return [list(row) for row in db.execute(query)]


def hexed(value):
    return "0x%x" % (value & (1 << 64) - 1)


def table(name):
    return 0 if name == "kernel" else name


def bare(value):
    """A number that JSON has as a string because it is large."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


(step, digest), = rows("SELECT step, digest FROM snapshot")
same("step", step, document["step"])
same("digest", "0x" + digest, document["digest"])
same("arch", rows("SELECT value FROM configuration WHERE key = 'arch'")[0][0], document["config"]["arch"])

fields = ("va", "end", "paddr", "leaves", "level", "prop", "tracked")
same("mappings",
     sorted(rows("SELECT vm_space, va, end, paddr, leaves, level, prop, tracked FROM mappings")),
     sorted([table(t["table"])] + [m[f] for f in fields] for t in document["tables"] for m in t["mappings"]))
same("areas", sorted(rows("SELECT id, start, end, refs FROM areas")),
     sorted([a["area"], a["start"], a["end"], a["refs"]] for a in document["areas"]))


def meet(area, run):
    size = 4096 << 9 * (run["level"] - 1)
    va, end = int(run["va"], 16), int(run["end"], 16)
    start, stop = int(area["start"], 16), int(area["end"], 16)
    low, high = max(va, start), min(end, stop)
    if low >= high:
        return None
    first, last = (low - va) // size, (high - 1 - va) // size
    return [hexed(va + first * size), hexed(va + (last + 1) * size), hexed(int(run["paddr"], 16) + first * size)]


kernel = [m for t in document["tables"] if t["table"] == "kernel" for m in t["mappings"]]
for area in document["areas"]:
    same("mappings of area %d" % area["area"], [m for m in (meet(area, run) for run in kernel) if m],
         [[m["va"], m["end"], m["paddr"]] for m in area["mappings"]])


def slots(runs):
    """Runs of (paddr, pages, what), each page on its own."""
    return {paddr + 4096 * i: what for paddr, pages, what in runs for i in range(pages)}


same("frames",
     slots((r[0], r[1], r[2:5] + [r[5] & (1 << 64) - 1] + r[6:]) for r in rows("SELECT paddr, pages, rc, usage, kind, meta, in_list FROM frame")),
     slots((int(f["paddr"], 16), f["pages"],
            [bare(f["rc"]), f["usage"], f["kind"], int(f["meta"], 16), f["in_list"]]) for f in document["frames"]))
for f in document["frames"]:
    if f["usage"] == "Frame" and isinstance(bare(f["rc"]), int):
        same("the equation of %s" % f["paddr"], bare(f["rc"]), f["h"] + f["p"] + f["c"] + f["k"])

same("nodes",
     sorted(rows("SELECT paddr, level, nr_children, stray, lock, vm_space, va FROM nodes"), key=str),
     sorted(([n["paddr"], n["level"], n["nr_children"], n["stray"], n["holder"],
              None if n["table"] is None else table(n["table"]), n["va"]] for n in document["nodes"]), key=str))
handles = [["frame", h["frame"], h["paddr"], hexed(int(h["paddr"], 16) + 4096)] for h in document["frame_handles"]]
handles += [["segment", h["segment"], h["start"], h["end"]] for h in document["segments"]]
handles += [["unique", h["unique"], h["paddr"], hexed(int(h["paddr"], 16) + 4096)] for h in document["uniques"]]
same("handles", sorted(rows("SELECT kind, id, start, end FROM handles")), sorted(handles))
same("free addresses", sorted(rows("SELECT start, end FROM free_ranges WHERE space = 'va'")),
     sorted([f["start"], f["end"]] for f in document["free_va"]))
same("free I/O memory", sorted(rows("SELECT space, start, end FROM free_ranges WHERE space != 'va'")),
     sorted(["mmio %d" % f["window"], f["start"], f["end"]] for f in document["free_mmio"]))
same("next ids", sorted(rows("SELECT kind, next FROM next_id")),
     sorted([n["kind"], n["next"]] for n in document["next_ids"]))
same("current CPU", rows("SELECT cpu FROM current_cpu"), [[document["current_cpu"]]])


def memory(runs):
    return {paddr + i: byte for paddr, text in runs for i, byte in enumerate(bytes.fromhex(text)) if byte}


same("contents", memory(rows("SELECT paddr, hex(bytes) FROM memory")),
     memory((int(c["paddr"], 16), c["bytes"]) for c in document["contents"]))

cpus = []
for cpu in document["cpus"]:
    words = [len(cpu["flush"])] + [w for f in cpu["flush"] for w in (int(f["va"], 16), f["pages"])]
    words += [len(cpu["kept"])] + [w for k in cpu["kept"]
                                   for w in (2 if k["kind"] == "node" else 1, int(k["paddr"], 16))]
    cpus.append([cpu["cpu"], cpu["vm_space"], cpu["ipi"], cpu["all"], " ".join(hexed(w) for w in words)])
same("CPUs", rows("SELECT cpu, vm_space, ipi, flush_all, queue FROM cpu ORDER BY cpu"), cpus)

lists = {8: "lists", 9: "links", 10: "vm_spaces", 11: "io_entries", 12: "cursors", 13: "flushers",
         16: "readers", 17: "writers", 18: "iomems", 21: "tlb"}
counts = dict(rows("SELECT tag, count(*) FROM element GROUP BY tag"))
for tag, name in lists.items():
    same(name, counts.get(tag, 0), len(document[name]))
numbered = {"links": lambda e: [int(e["paddr"], 16) // 4096, e["list"]] +
            [0 if e[k] is None else int(e[k], 16) // 4096 + 1 for k in ("previous", "next")]}
for tag in (8, 9, 10, 12, 16, 17):
    name = lists[tag]
    want = sorted([int(w, 16) for w in words.split()]
                  for words, in rows("SELECT words FROM element WHERE tag = %d" % tag))
    have = sorted(numbered.get(name, lambda e: [int(v, 16) if isinstance(v, str) else int(v)
                                                for v in e.values()])(e) for e in document[name])
    same(name, want, have)

sys.exit(failed > 0)
