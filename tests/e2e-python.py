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
PAGE = 0x1000
LINEAR = 0xFFFF800000000000  # where the kernel half shows physical memory
RW = 3 | 4 << 16  # rw:wb
RW_USER = RW | 0x100

ended_ok = set()  # operations that did, by name


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

    def envelope(self, name, args, **fields):
        """A request for the operation of that name; lists and scalars alike."""
        op = pb.Op()
        message = getattr(op, name)
        message.SetInParent()
        for key, value in args.items():
            if isinstance(value, list):
                getattr(message, key).extend(value)
            else:
                setattr(message, key, value)
        return dict(op=op, **fields)

    def call(self, name, detached=None, wait_ms=None, **args):
        """Apply an operation by name; its outcome, whatever it is."""
        response = self.ask(**self.envelope(name, args, detached=detached, wait_ms=wait_ms))
        assert response.WhichOneof("body") == "outcome", response
        return response.outcome

    def ok(self, name, **args):
        """Apply an operation that ends ok; its result."""
        outcome = self.call(name, **args)
        assert outcome.outcome == pb.OUTCOME_OK, (name, args, outcome)
        assert outcome.result.WhichOneof("op") == name
        ended_ok.add(name)
        return getattr(outcome.result, name)

    def refused(self, kind, words, name, **args):
        """Apply an operation that does not; its detail."""
        outcome = self.call(name, **args)
        assert outcome.outcome == kind and outcome.name == words, (name, args, outcome)
        assert not outcome.HasField("result")
        return outcome.detail

    def waiting(self):
        return self.ask(status=pb.StatusRequest()).status.waiting

    def waiting_is(self, count):
        deadline = time.monotonic() + 30
        while self.waiting() != count:
            assert time.monotonic() < deadline, self.waiting()
            time.sleep(0.002)

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
    assert not answer.store.HasField("broken") and answer.store.saved_step == 0
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
    assert [(s.store, s.step) for s in snapshots] == [("default", 0), ("small", 1), ("small", 0)]
    c.op(frame_alloc=pb.FrameAlloc())
    assert c.ask(snapshot_load=pb.SnapshotLoad()).store.step == 3  # one more step
    status = c.ask(status=pb.StatusRequest()).status
    assert status.stores == 2 and status.store.name == "small" and status.HasField("state_dir")
    assert "relaxed" in status.durability
    assert c.ask(store_drop=pb.StoreDrop(name="small")).WhichOneof("body") == "done"
    c.error(pb.ERROR_UNKNOWN_STORE, op=pb.Op(frame_alloc=pb.FrameAlloc()))
    assert c.ask(store_select=pb.StoreSelect(name="default")).store.name == "default"


# --- the whole model, in a store of its own ---------------------------------------------


def frames(c):
    frame = c.ok("frame_from_unused", paddr=0x1000, meta=U64).frame
    again = c.ok("frame_from_in_use", paddr=0x1000).frame
    clone = c.ok("frame_clone", frame=again).frame
    assert not c.ok("frame_drop", frame=frame).last and not c.ok("frame_drop", frame=again).last
    assert c.ok("frame_drop", frame=clone).last
    assert c.ok("frame_alloc", kind=pb.FRAME_KIND_TYPED).paddr == 0
    c.refused(pb.OUTCOME_ERR, "InUse", "frame_from_unused", paddr=0)
    c.ok("boot_reserve", start=0x10000, end=0x12000, usage=pb.USAGE_RESERVED)
    c.ok("frame_drop", frame=c.ok("frame_from_unique",
                                  unique=c.ok("unique_from_unused", paddr=0x2000).unique).frame)
    unique = c.ok("unique_from_shared", frame=c.ok("frame_alloc").frame).unique
    c.ok("unique_set_meta", unique=unique, meta=5)
    c.ok("unique_repurpose", unique=unique, kind=pb.FRAME_KIND_TYPED, meta=6)
    c.ok("unique_reset", unique=unique)
    c.ok("unique_drop", unique=c.ok("unique_from_unused", paddr=0x2000).unique)


def segments(c):
    whole = c.ok("segment_alloc", pages=4)
    assert whole.end - whole.start == 4 * PAGE
    c.ok("segment_write", segment=whole.segment, offset=PAGE - 2, bytes=b"\x00\xffover")
    assert c.ok("segment_read", segment=whole.segment, offset=PAGE - 2, len=6).bytes == b"\x00\xffover"
    c.ok("segment_fill_zeros", segment=whole.segment, offset=PAGE, len=2)
    assert c.ok("segment_read", segment=whole.segment, offset=PAGE - 1, len=5).bytes == b"\xff\x00\x00er"
    assert c.ok("segment_read", segment=whole.segment, offset=0, len=0).bytes == b""
    c.refused(pb.OUTCOME_ERR, "InvalidArgs", "segment_read", segment=whole.segment, offset=4 * PAGE, len=1)
    part = c.ok("segment_slice", segment=whole.segment, start=PAGE, end=3 * PAGE)
    assert not part.empty
    assert c.ok("segment_slice", segment=whole.segment, start=0, end=0).empty
    copy = c.ok("segment_clone", segment=part.segment).segment
    halves = c.ok("segment_split", segment=copy, offset=PAGE)
    first = c.ok("segment_next", segment=halves.left)
    assert first.last and first.paddr == whole.start + PAGE
    one = c.ok("segment_from_frame", frame=first.frame)
    for segment in (one.segment, halves.right, part.segment, whole.segment):
        pages = c.ok("segment_drop", segment=segment).pages
    assert pages == 4
    c.ok("segment_drop", segment=c.ok("segment_from_unused", start=0x20000, end=0x22000).segment)


def lists(c):
    def link(paddr):
        return c.ok("unique_from_unused", paddr=paddr, kind=pb.FRAME_KIND_LINK, meta=paddr >> 12).unique

    a = c.ok("list_new").list
    assert c.ok("list_is_empty", list=a).is_empty
    assert not c.ok("list_pop_front", list=a).HasField("unique")
    c.ok("list_push_back", list=a, unique=link(0x31000))
    c.ok("list_push_front", list=a, unique=link(0x30000))
    c.ok("list_insert_before_at", list=a, index=1, unique=link(0x32000))
    assert c.ok("list_size", list=a).count == 3 and c.ok("list_contains", list=a, paddr=0x32000).contains
    assert c.ok("list_cursor_front_mut", list=a).index == 0
    c.refused(pb.OUTCOME_PRE, "list_has_cursor", "list_size", list=a)
    assert list(c.ok("list_cursor_as_list", list=a).paddrs) == [0x30000, 0x32000, 0x31000]
    assert c.ok("list_cursor_move_next", list=a).index == 1
    assert c.ok("list_cursor_current_meta", list=a).meta == 0x32
    assert c.ok("list_cursor_insert_before", list=a, unique=link(0x33000)).index == 2
    assert c.ok("list_cursor_take_current", list=a).paddr == 0x32000
    assert c.ok("list_cursor_move_prev", list=a).index == 1
    c.ok("list_cursor_drop", list=a)
    assert c.ok("list_cursor_back_mut", list=a).index == 2
    c.ok("list_cursor_drop", list=a)
    assert not c.ok("list_cursor_mut_at", list=a, paddr=0x32000).found
    assert c.ok("list_pop_back", list=a).paddr == 0x31000
    assert c.ok("list_take_at", list=a, index=1).paddr == 0x33000
    assert c.ok("list_drop", list=a).count == 1


def areas(c):
    frames = [c.ok("frame_alloc").frame for _ in range(2)]
    area = c.ok("kvirt_map_frames", area_size=4 * PAGE, map_offset=PAGE, frames=frames, prop=RW)
    found = c.ok("kvirt_query", area=area.area, va=area.start + PAGE + 7)
    assert found.found and found.tracked and found.start == area.start + PAGE and found.prop == RW
    c.ok("frame_drop", frame=found.frame)
    assert not c.ok("kvirt_peek", area=area.area, va=area.start).HasField("paddr")
    assert c.ok("kvirt_range", area=area.area).size == 4 * PAGE
    halves = c.ok("kvirt_split", area=area.area, offset=2 * PAGE)
    assert c.ok("kvirt_drop", area=halves.left).leaves == 1
    assert c.ok("kvirt_drop", area=halves.right).leaves == 1
    base = 0xFFFFC00000000000
    area = c.ok("kvirt_map_frames_at", start=base, area_size=2 * PAGE, frames=[c.ok("frame_alloc").frame], prop=RW)
    c.ok("kvirt_drop", area=area.area)
    base += 0x40000000  # the node below the small area is still there, and no large page goes over it
    big = c.ok("kvirt_map_untracked_frames_at", start=base, area_size=0x400000, paddr_start=0x200000000,
               paddr_end=0x200400000, prop=3)
    assert c.ok("kvirt_unmap_range", area=big.area, start=base, end=base + PAGE).leaves == 1  # and 511 are left
    assert c.ok("kvirt_protect_range", area=big.area, start=base + PAGE, end=base + 3 * PAGE, clear=2).leaves == 2
    c.ok("kvirt_drop", area=big.area)
    c.ok("kvirt_drop", area=c.ok("kvirt_map_untracked_frames", area_size=PAGE, paddr_start=0x200000000,
                                 paddr_end=0x200001000, prop=3).area)
    kept = c.ok("kvirt_reserve", area_size=8 * PAGE)
    c.ok("kvirt_map_frames_into", area=kept.area, va=kept.start, frames=[c.ok("frame_alloc").frame], prop=RW)
    c.refused(pb.OUTCOME_PRE, "area_mapped", "kvirt_unreserve", area=kept.area)
    assert c.ok("kvirt_map_untracked_into", area=kept.area, va=kept.start + PAGE, paddr_start=0x200000000,
                paddr_end=0x200002000, prop=3).leaves == 2
    c.ok("kvirt_flush", start=kept.start, end=kept.end)
    c.ok("kvirt_drop", area=kept.area)
    c.ok("kvirt_unreserve", area=c.ok("kvirt_reserve_at", start=base, area_size=PAGE).area)
    assert c.ok("boot_map", va=LINEAR, paddr_start=0, paddr_end=0x200000, prop=RW).leaves == 1
    assert c.ok("boot_protect_range", start=LINEAR, end=LINEAR + PAGE, clear=2).leaves == 1


def spaces(c):
    space = c.ok("vm_space_new").vm_space
    cursor = c.ok("cursor_open_mut", vm_space=space, start=0x1000, end=0x8000).cursor
    for va in (0x1000, 0x2000):
        assert c.ok("cursor_map", cursor=cursor, frame=c.ok("frame_alloc").frame, prop=RW_USER).va == va + PAGE
    device = c.ok("iomem_acquire", start=0xFED00000, end=0xFED01000)
    assert c.ok("cursor_map_iomem", cursor=cursor, iomem=device.iomem, prop=0x103, len=PAGE).pages == 1
    other = c.ok("cursor_find_iomem_by_paddr", cursor=cursor, paddr=0xFED00010)
    assert other.found and other.offset == 0x10
    assert c.ok("cursor_jump", cursor=cursor, va=0x1000).va == 0x1000
    found = c.ok("cursor_query", cursor=cursor)
    assert found.tracked and found.prop == RW_USER
    c.ok("frame_drop", frame=found.frame)
    assert c.ok("cursor_peek", cursor=cursor).paddr == found.paddr
    assert c.ok("cursor_protect_next", cursor=cursor, len=PAGE, clear=2).found
    assert c.ok("cursor_find_next", cursor=cursor, len=PAGE).va == 0x2000
    assert c.ok("cursor_virt_addr", cursor=cursor).va == 0x2000
    c.ok("cpu_set", cpu=1)
    assert c.ok("vm_space_activate", vm_space=space).changed
    assert c.ok("access", cpu=1, va=0x2008, access=pb.ACCESS_TYPE_W).hit == pb.HIT_WALK
    assert c.ok("access", cpu=1, va=0x2010).hit == pb.HIT_TLB
    c.refused(pb.OUTCOME_ERR, "PageFault", "access", cpu=1, va=0x1000, access=pb.ACCESS_TYPE_W)
    assert c.ok("tlb_fill", cpu=1, va=0x1000).filled
    c.ok("cpu_set", cpu=0)
    gone = c.ok("cursor_unmap", cursor=cursor, len=PAGE)
    assert gone.leaves == 1 and gone.remote == 1
    c.refused(pb.OUTCOME_BLOCK, "ipi_pending", "flush_sync", cursor=cursor)
    assert c.ok("ipi_deliver", cpu=1).flushed == 1
    c.ok("flush_sync", cursor=cursor)
    c.ok("flush_issue", cursor=cursor, kind=pb.FLUSH_KIND_ALL)
    assert c.ok("flush_dispatch", cursor=cursor).remote == 1
    c.ok("ipi_deliver", cpu=1)
    c.ok("rcu")
    c.ok("cursor_drop", cursor=cursor)
    c.ok("cpu_set", cpu=1)
    assert c.ok("vm_space_deactivate").changed
    c.ok("cpu_set", cpu=0)
    devices(c, [device.iomem, other.iomem])
    assert c.ok("vm_space_drop", vm_space=space).destroyed


def devices(c, iomems):
    part = c.ok("iomem_slice", iomem=iomems[0], start=0x10, end=0x20).iomem
    iomems += [part, c.ok("iomem_clone", iomem=part).iomem]
    c.ok("iomem_write", iomem=part, offset=0, bytes=b"ignored")
    assert c.ok("iomem_read", iomem=part, offset=0, len=16).bytes == bytes(16)
    c.ok("iomem_write_once", iomem=part, offset=8, width=8, value=U64)
    assert c.ok("iomem_read_once", iomem=part, offset=4, width=4).value == 0
    for iomem in iomems:
        c.ok("iomem_drop", iomem=iomem)


def bytes_moved(c):
    everything = bytes(range(256)) * 16
    memory = c.ok("segment_alloc", pages=4)

    def kernel(kind, offset, size):
        return getattr(c.ok(f"{kind}_new_kernel", va=LINEAR + memory.start + offset, len=size), kind)

    writer = kernel("writer", 0, PAGE)
    assert c.ok("writer_write_bytes", writer=writer, bytes=everything).copied == PAGE
    assert c.ok("writer_query", writer=writer).avail == 0
    reader = kernel("reader", 0, PAGE)
    assert c.ok("reader_read_bytes", reader=reader, len=1).bytes == b"\x00"
    assert c.ok("reader_read_val", reader=reader, width=8).value == 0x0807060504030201
    assert c.ok("reader_skip", reader=reader, len=7).remain == PAGE - 16
    assert c.ok("reader_read_once", reader=reader, width=2).value == 0x1110
    copy = c.ok("reader_clone", reader=reader).reader
    assert c.ok("reader_limit", reader=copy, max=0xEE).remain == 0xEE
    assert c.ok("reader_collect", reader=copy).bytes == everything[0x12:0x100]
    assert c.ok("reader_query", reader=copy).remain == 0

    writer = kernel("writer", PAGE, PAGE)
    assert c.ok("io_read", reader=kernel("reader", 0, 16), writer=writer).copied == 16
    c.ok("writer_write_val", writer=writer, width=4, value=0xDEADBEEF)
    c.ok("writer_write_once", writer=writer, width=4, value=1)
    assert c.ok("writer_skip", writer=writer, len=8).avail == PAGE - 32
    other = c.ok("writer_clone", writer=writer).writer
    assert c.ok("writer_limit", writer=other, max=64).avail == 64
    assert c.ok("writer_fill", writer=other, width=8, value=0x4141414141414141).count == 8
    assert c.ok("writer_fill_zeros", writer=writer, len=32).copied == 32
    assert c.ok("io_write", reader=kernel("reader", 0, 4), writer=writer).copied == 4
    assert c.ok("segment_read", segment=memory.segment, offset=PAGE, len=104).bytes == (
        everything[:16] + b"\xef\xbe\xad\xde\x01\x00\x00\x00" + bytes(40) + everything[:4] + b"A" * 28 + bytes(8))

    words = kernel("reader", 2 * PAGE, 8), kernel("writer", 2 * PAGE, 8)
    c.ok("reader_to_fallible", reader=words[0])
    c.ok("writer_to_fallible", writer=words[1])
    assert c.ok("reader_atomic_load", reader=words[0]).value == 0
    swap = c.ok("writer_atomic_compare_exchange", writer=words[1], reader=words[0], old=0, new=9)
    assert swap.success and swap.prev == 0
    assert c.ok("reader_atomic_load", reader=words[0]).value == 9
    c.ok("reader_drop", reader=words[0])
    c.ok("writer_drop", writer=words[1])

    # a user's, which stop where the mapping does
    space = c.ok("vm_space_new").vm_space
    cursor = c.ok("cursor_open_mut", vm_space=space, start=0x1000, end=0x3000).cursor
    c.ok("cursor_map", cursor=cursor, frame=c.ok("frame_alloc").frame, prop=RW_USER)
    c.ok("cursor_drop", cursor=cursor)
    c.ok("vm_space_activate", vm_space=space)
    user = c.ok("writer_new", vm_space=space, va=0x1FFC, len=16).writer
    part = c.ok("io_copy_fallible", reader=kernel("reader", 5, 16), writer=user)
    assert part.copied == 4 and part.fault
    user = c.ok("reader_new", vm_space=space, va=0x1FFC, len=16).reader
    part = c.ok("reader_read_bytes", reader=user, len=16)
    assert part.copied == 4 and part.fault and part.bytes == b"\x05\x06\x07\x08"
    both = c.ok("reader_writer_new", vm_space=space, va=0x1000, len=8)
    c.refused(pb.OUTCOME_PRE, "vm_space_in_use", "vm_space_drop", vm_space=space)
    assert both.reader != user and both.writer > 0


def model(path):
    c = Connection(path)
    c.hello()
    c.ask(store_create=pb.StoreCreate(name="model", config=pb.StoreConfig(ncpu=2)))
    c.ask(store_select=pb.StoreSelect(name="model"))
    c.ask(set_check=pb.SetCheck(check=pb.CHECK_FULL, every=5))
    for part in (frames, segments, lists, areas, spaces, bytes_moved):
        part(c)
        assert not c.inspect(check=pb.InspectCheck()).inspect_result.check.inv
    missing = [f.name for f in pb.Op.DESCRIPTOR.fields if f.name not in ended_ok | {"cursor_open"}]
    assert not missing, missing
    return c


# --- cursors of several connections -------------------------------------------------------


def cursors(path):
    a, b, d = (Connection(path) for _ in range(3))
    for c in (a, b, d):
        answer = c.hello(store="model", features=["detached", "wait"])
        assert answer.WhichOneof("body") == "hello", answer
    space = a.ok("vm_space_new").vm_space

    def page(number):
        return dict(vm_space=space, start=number << 21, end=(number << 21) + PAGE)

    # who opens it keeps others out, and all may use it
    mine = a.ok("cursor_open_mut", **page(0)).cursor
    assert b.refused(pb.OUTCOME_BLOCK, "cursor_locked", "cursor_open", **page(0)) == mine
    assert b.ok("cursor_virt_addr", cursor=mine).va == 0

    # it ends with its connection, one that is detached does not, and who waits is served
    detached = a.ok("cursor_open", detached=True, **page(1)).cursor
    before = b.inspect(census=pb.InspectCensus()).inspect_result.census.cursors
    sent = d.send(**d.envelope("cursor_open", page(0), wait_ms=20000))
    behind = d.send(status=pb.StatusRequest())
    b.waiting_is(1)
    a.socket.close()
    response = d.receive()
    assert response.id == sent and response.outcome.outcome == pb.OUTCOME_OK, response
    his = response.outcome.result.cursor_open.cursor
    ended_ok.add("cursor_open")
    response = d.receive()
    assert response.id == behind and response.status.waiting == 0, response
    assert b.inspect(census=pb.InspectCensus()).inspect_result.census.cursors == before
    assert b.refused(pb.OUTCOME_BLOCK, "cursor_locked", "cursor_open", **page(1)) == detached

    # time over
    started = time.monotonic()
    outcome = b.call("cursor_open", wait_ms=50, **page(1))
    assert outcome.outcome == pb.OUTCOME_BLOCK and outcome.detail == detached and outcome.HasField("step")
    assert time.monotonic() - started >= 0.05 and not outcome.wait_cycle

    # circles: of one connection, of two; a detached cursor makes none
    outcome = d.call("cursor_open", wait_ms=20000, **page(0))
    assert outcome.outcome == pb.OUTCOME_BLOCK and list(outcome.wait_cycle) == [his], outcome
    ours = b.ok("cursor_open_mut", **page(2)).cursor
    sent = d.send(**d.envelope("cursor_open", page(2), wait_ms=20000))
    b.waiting_is(1)
    outcome = b.call("cursor_open", wait_ms=20000, **page(0))
    assert outcome.outcome == pb.OUTCOME_BLOCK and list(outcome.wait_cycle) == [his, ours], outcome

    # nobody overtakes
    wide = dict(vm_space=space, start=0, end=4 << 21)
    e, f = Connection(path), Connection(path)
    e.hello(store="model")
    f.hello(store="model")
    wide_sent = e.send(**e.envelope("cursor_open", wide, wait_ms=20000))
    b.waiting_is(2)
    step = f.ask(status=pb.StatusRequest()).status.store.step
    outcome = f.call("cursor_open", **page(3))
    assert outcome.outcome == pb.OUTCOME_BLOCK and outcome.held_back and not outcome.HasField("step"), outcome
    assert f.ask(status=pb.StatusRequest()).status.store.step == step
    b.ok("cursor_drop", cursor=ours)
    assert d.receive().id == sent
    f.ok("cursor_drop", cursor=detached)
    f.waiting_is(1)
    d.socket.close()
    response = e.receive()
    assert response.id == wide_sent and response.outcome.outcome == pb.OUTCOME_OK, response

    # what makes no sense is refused
    for c in (b, f):
        c.error(pb.ERROR_INVALID, **c.envelope("frame_alloc", {}, wait_ms=1))
        c.error(pb.ERROR_INVALID, **c.envelope("frame_alloc", {}, detached=True))
        c.error(pb.ERROR_INVALID, **c.envelope("cursor_open", page(1024), wait_ms=1, dry_run=True))
        c.error(pb.ERROR_INVALID, status=pb.StatusRequest(), wait_ms=1)
        c.error(pb.ERROR_INVALID, status=pb.StatusRequest(), detached=True)
        c.error(pb.ERROR_INVALID, batch=pb.Batch(), wait_ms=1)
        c.error(pb.ERROR_LIMIT, **c.envelope("cursor_open", page(1024), wait_ms=2**32 - 1))
        request = pb.Request(id=1, op=pb.Op(cursor_open=pb.CursorOpen(**page(1024)))).SerializeToString()
        c.send_bytes(request + b"\x98\x01" + b"\xff" * 9 + b"\x01")  # wait_ms of 64 bits
        assert c.receive().error.code == pb.ERROR_INVALID
        c.ok("cursor_drop", cursor=c.ok("cursor_open", **page(1024)).cursor)


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
    whole = model(path)
    cursors(path)
    garbage(path)
    assert not whole.inspect(check=pb.InspectCheck()).inspect_result.check.inv
    assert not c.inspect(check=pb.InspectCheck()).inspect_result.check.inv


main()
