"""kvmstored as a program in another language sees it: the published schema,
stock protobuf and a socket, nothing of this project's own code.

Usage: e2e-python.py SOCKET, with kvmstore_pb2 on the path.
"""

import socket
import struct
import sys
import time

import kvmstore_pb2 as pb

U64 = 2**64 - 1


class Connection:
    """Frames over a socket; requests get ids of their own."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(30)
        deadline = time.monotonic() + 30
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.id = 0

    def send(self, **body):
        self.id += 1
        data = pb.Request(id=self.id, **body).SerializeToString()
        self.send_bytes(data)
        return self.id

    def send_bytes(self, data):
        self.socket.sendall(struct.pack("<I", len(data)) + data)

    def read(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def receive(self):
        (size,) = struct.unpack("<I", self.read(4))
        response = pb.Response()
        response.ParseFromString(self.read(size))
        return response

    def ask(self, **body):
        sent = self.send(**body)
        response = self.receive()
        assert response.id == sent, response
        return response

    def hello(self, **fields):
        return self.ask(hello=pb.Hello(version=1, client="e2e-python", **fields))

    def op(self, **op):
        response = self.ask(op=pb.Op(**op))
        assert response.WhichOneof("body") == "outcome", response
        return response.outcome

    def inspect(self, **request):
        response = self.ask(inspect=pb.Inspect(**request))
        assert response.WhichOneof("body") == "outcome", response
        return response.outcome

    def digest(self):
        return self.inspect(digest=pb.InspectDigest()).inspect_result.digest.digest

    def error(self, code, **body):
        response = self.ask(**body)
        assert response.WhichOneof("body") == "error", response
        assert response.error.code == code, response
        assert not response.error.closing, response
        return response.error.text


def greeting(path):
    c = Connection(path)
    assert "Hello" in c.error(pb.ERROR_HELLO_FIRST, status=pb.StatusRequest())
    c.error(pb.ERROR_UNSUPPORTED, hello=pb.Hello(version=9))
    c.error(pb.ERROR_UNSUPPORTED, hello=pb.Hello(version=1, features=["telepathy"]))
    c.error(pb.ERROR_UNKNOWN_STORE, hello=pb.Hello(version=1, store="nowhere"))
    answer = c.hello(features=["batch", "snapshots"]).hello
    assert answer.version == 1 and answer.server.startswith("kvmstored ")
    assert answer.store.name == "default" and answer.store.step == 0
    assert answer.store.config.max_paddr == 0x80000000 and answer.store.config.arch == pb.ARCH_X86_64
    assert not answer.store.HasField("broken") and not answer.store.HasField("saved_step")
    return c


def operations(c):
    assert c.digest() == 0x89724308C7D7AA90
    outcome = c.op(frame_from_unused=pb.FrameFromUnused(paddr=0x1000))
    assert outcome.outcome == pb.OUTCOME_OK and outcome.step == 1
    assert not outcome.HasField("name") and not outcome.HasField("inspect_result")
    assert outcome.result.WhichOneof("op") == "frame_from_unused"
    assert outcome.result.frame_from_unused.frame == 1
    assert c.digest() == 0x7F75B2DFBB38D6DE

    area = c.op(kvirt_map_frames=pb.KvirtMapFrames(area_size=0x2000, frames=[1], prop=3 | 4 << 16))
    assert area.result.kvirt_map_frames.area == 1
    assert area.result.kvirt_map_frames.nodes_allocated == 2
    start = area.result.kvirt_map_frames.start
    assert c.digest() == 0xF2C8117A32C65F1F

    refused = c.op(frame_clone=pb.FrameClone(frame=1))
    assert refused.outcome == pb.OUTCOME_PRE and refused.name == "unknown_frame"
    assert not refused.HasField("result") and refused.step == 3

    dry = c.ask(op=pb.Op(frame_alloc=pb.FrameAlloc()), dry_run=True).outcome
    assert dry.outcome == pb.OUTCOME_OK and dry.result.frame_alloc.frame == 2 and not dry.HasField("step")
    assert c.digest() == 0xF2C8117A32C65F1F
    return start


def inspection(c, start):
    found = c.inspect(translate=pb.InspectTranslate(va=start + 0x10)).inspect_result.translate
    assert found.found and found.paddr == 0x1010 and found.level == 1 and found.tracked
    assert found.prop == 3 | 4 << 16
    absent = c.inspect(translate=pb.InspectTranslate(va=start + 0x1000)).inspect_result.translate
    assert absent.HasField("found") and not absent.found
    assert not absent.HasField("paddr") and not absent.HasField("prop")

    frame = c.inspect(frame=pb.InspectFrame(paddr=0x1000)).inspect_result.frame
    assert frame.rc == 1 and frame.usage == pb.USAGE_FRAME and frame.kind == pb.SLOT_KIND_UNTYPED
    assert frame.h == 0 and frame.p == 1
    assert c.inspect(frame=pb.InspectFrame(paddr=0x2000)).inspect_result.frame.rc == U64
    bad = c.inspect(frame=pb.InspectFrame(paddr=1))
    assert bad.outcome == pb.OUTCOME_PRE and bad.name == "bad_paddr"

    areas = c.inspect(areas=pb.InspectAreas()).inspect_result.areas.areas
    assert list(areas) == [1, start, start + 0x2000]
    assert not c.inspect(check=pb.InspectCheck()).inspect_result.check.inv
    walk = c.inspect(walk=pb.InspectWalk(va=start)).inspect_result.walk.levels
    assert len(walk) == 16 and list(walk[0::4]) == [4, 3, 2, 1]
    holders = c.inspect(who_holds=pb.InspectWhoHolds(paddr=0x1000)).inspect_result.who_holds
    assert list(holders.mappings) == [0, start] and not holders.frames

    many = c.ask(translate_many=pb.TranslateMany(va=[start, start + 0x1000, start + 0xFFF])).translated
    assert list(many.found) == [True, False, True]
    assert list(many.paddr) == [0x1000, 0, 0x1FFF]
    runs = c.ask(extents=pb.Extents()).extents
    assert list(runs.va) == [start] and list(runs.leaves) == [1] and not runs.HasField("next")


def refusals(c):
    text = c.error(pb.ERROR_INVALID, op=pb.Op(frame_clone=pb.FrameClone()))
    assert "frame" in text and "missing" in text, text
    text = c.error(pb.ERROR_INVALID, op=pb.Op())
    assert "operation" in text, text
    text = c.error(pb.ERROR_INVALID, op=pb.Op(boot_map=pb.BootMap(
        va=0xFFFF888000000000, paddr_start=0, paddr_end=0x1000, prop=1 << 30)))
    assert "prop" in text, text
    request = pb.Request(id=1, op=pb.Op(frame_clone=pb.FrameClone(frame=1))).SerializeToString()
    c.send_bytes(request + b"\xf8\x06\x01")  # field 111, a number
    error = c.receive().error
    assert error.code == pb.ERROR_INVALID and "111" in error.text, error
    c.send_bytes(request + request)
    assert c.receive().error.code == pb.ERROR_INVALID
    # an enum's number that the schema does not have: field 2 of FrameFromUnused
    args = pb.FrameFromUnused(paddr=0x5000).SerializeToString() + b"\x10\x63"
    op = b"\x0a" + bytes([len(args)]) + args
    c.send_bytes(b"\x22" + bytes([len(op)]) + op)
    error = c.receive().error
    assert error.code == pb.ERROR_INVALID and "kind" in error.text, error


def keywords(c, start):
    # "global" is a word of Python's own
    args = pb.KvirtProtectRange(area=1, start=start, end=start + 0x1000, set=4,
                                **{"global": pb.GLOBAL_SET})
    assert getattr(args, "global") == pb.GLOBAL_SET
    outcome = c.op(kvirt_protect_range=args)
    assert outcome.outcome == pb.OUTCOME_OK and outcome.result.kvirt_protect_range.leaves == 1
    found = c.inspect(translate=pb.InspectTranslate(va=start)).inspect_result.translate
    assert found.prop == 7 | 0x200 | 4 << 16, hex(found.prop)


def stores(c):
    config = pb.StoreConfig(arch=pb.ARCH_RISCV64_SV39, max_paddr=0x40000000, ncpu=2,
                            reserve=[0x1000, 0x2000, 0x5000, 0x7000])
    answer = c.ask(store_create=pb.StoreCreate(name="small", config=config))
    if answer.WhichOneof("body") == "error":  # that architecture may not be there yet
        assert answer.error.code == pb.ERROR_STORE_REFUSED, answer
        config.arch = pb.ARCH_X86_64
        answer = c.ask(store_create=pb.StoreCreate(name="small", config=config))
    assert answer.store.name == "small" and list(answer.store.config.reserve) == [0x1000, 0x2000, 0x5000, 0x7000]
    c.error(pb.ERROR_STORE_EXISTS, store_create=pb.StoreCreate(name="small"))
    c.error(pb.ERROR_INVALID, store_create=pb.StoreCreate(name="a/b"))
    c.error(pb.ERROR_STORE_REFUSED,
            store_create=pb.StoreCreate(name="odd", config=pb.StoreConfig(max_paddr=1)))
    assert [s.name for s in c.ask(store_list=pb.StoreList()).stores.stores] == ["default", "small"]
    assert c.ask(store_select=pb.StoreSelect(name="small")).store.step == 0
    assert c.op(frame_alloc=pb.FrameAlloc()).result.frame_alloc.paddr == 0
    answer = c.ask(set_check=pb.SetCheck(check=pb.CHECK_FULL, every=10)).store
    assert answer.check == pb.CHECK_FULL and answer.check_every == 10
    assert c.ask(snapshot_save=pb.SnapshotSave()).store.saved_step == 1
    snapshots = c.ask(snapshot_list=pb.SnapshotList()).snapshots.snapshots
    assert [(s.store, s.step) for s in snapshots] == [("small", 1)]
    c.op(frame_alloc=pb.FrameAlloc())
    assert c.ask(snapshot_load=pb.SnapshotLoad()).store.step == 1
    status = c.ask(status=pb.StatusRequest()).status
    assert status.stores == 2 and status.store.name == "small" and status.HasField("state_dir")
    assert "nothing is lost" in status.durability
    assert c.ask(store_drop=pb.StoreDrop(name="small")).WhichOneof("body") == "done"
    c.error(pb.ERROR_UNKNOWN_STORE, op=pb.Op(frame_alloc=pb.FrameAlloc()))
    assert c.ask(store_select=pb.StoreSelect(name="default")).store.name == "default"


def many(c):
    before = c.ask(status=pb.StatusRequest()).status.store.step
    batch = pb.Batch(ops=[pb.Op(frame_alloc=pb.FrameAlloc()) for _ in range(100)])
    outcomes = c.ask(batch=batch).batch.outcomes
    assert [o.step for o in outcomes] == list(range(before + 1, before + 101))
    sent = [c.send(op=pb.Op(frame_alloc=pb.FrameAlloc())) for _ in range(1000)]
    for wanted in sent:
        response = c.receive()
        assert response.id == wanted and response.outcome.outcome == pb.OUTCOME_OK


def garbage(path):
    c = Connection(path)
    c.socket.sendall(b"\x04\x00\x00\x00\xff\xff\xff\xff")
    response = c.receive()
    assert response.error.code == pb.ERROR_MALFORMED and response.error.closing
    try:
        c.read(1)
    except EOFError:
        return
    raise AssertionError("the connection goes on")


def main():
    path = sys.argv[1]
    c = greeting(path)
    start = operations(c)
    inspection(c, start)
    refusals(c)
    keywords(c, start)
    stores(c)
    many(c)
    garbage(path)
    assert not c.inspect(check=pb.InspectCheck()).inspect_result.check.inv


main()
