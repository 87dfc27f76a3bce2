#include "client/commands.h"

#include <limits.h>
#include <string.h>

#define OPT(symbol) ((kvmctl_options)1 << OPTION_##symbol)
#define OPEN_OPTIONS (OPT(wait) | OPT(detached))
#define HISTORY_OPTIONS OPT(state_dir)
#define IMAGE_OPTIONS (OPT(cr3) | OPT(satp) | OPT(root) | OPT(arch) | OPT(levels) | OPT(pat) | OPT(base) | OPT(memory))
#define EXEC_OPTIONS (OPT(strict) | OPT(keep))

static const struct kvmctl_command commands[] = {
	{ "exec", "'OP ...' ... | -", "operations and requests; - = from standard input",
	  "Runs one after the other on one store and prints one outcome for each.  All run, whatever came of those "
	  "before; --strict stops at the first operation that is not ok.\n"
	  "From the arguments nothing runs if one of them has a mistake; from standard input a mistake stops there.\n"
	  "In a daemon, cursors that are opened here are dropped when the call ends; --detached keeps them.  With "
	  "--wait "
	  "an open waits for a lock instead of answering \"block\" at once.\n"
	  "With --atomic all operations happen together, with no other client's in between and one write of the journal, or "
	  "none of them if one is not ok: outcomes are printed up to that one.  At most 4096 operations, no requests and no "
	  "opens of cursors; from standard input all are read before the first happens.\n"
	  "Exit status 1 if an operation was not ok, 5 if a check found a broken law.\n"
	  "\tkvmctl exec frame_alloc 'kvirt_query area=1 va=0xffffdfffffffe000'\n"
	  "\tkvmctl exec --atomic 'frame_drop frame=1' 'frame_drop frame=2'\n"
	  "\tkvmctl --embedded exec frame_alloc 'who_holds paddr=0x0' census\n",
	  EXEC_OPTIONS | OPEN_OPTIONS | OPT(atomic), 1, INT_MAX, kvmctl_exec },
	{ "dry-run", "'OP ...' ... | -", "what operations would answer; nothing changes",
	  "Each is tried on the store as it is now, not as those before it would have left it.\n"
	  "Exit status 1 if one would not be ok.\n"
	  "\tkvmctl dry-run 'kvirt_drop area=3'\n",
	  OPT(strict), 1, INT_MAX, kvmctl_exec_dry },
	{ "run", "FILE", "run a trace and print it with the outcomes",
	  "The outcomes in the file are not compared: they are replaced, and what is printed is a trace again.  Expect "
	  "lines are checked.  Runs on the store that --store names, which must not differ from what the trace asks "
	  "for; with --embedded on a fresh store as the trace configures it.\n"
	  "Exit status 0 if the file ran to its end: outcomes are results, whatever they are.  With --strict 1 if "
	  "any operation was not ok.  4 if an expect line did not hold.\n"
	  "\tkvmctl --embedded run ops.kvt > recorded.kvt\n",
	  EXEC_OPTIONS, 1, 1, kvmctl_run },
	{ "replay", "FILE...", "replay traces and compare every outcome",
	  "Runs in a store made for it and gone afterwards, with the trace's configuration; --keep NAME keeps it.  "
	  "With --store NAME it runs in that store, which must have the trace's configuration.\n"
	  "Stops at the first difference; --keep-going reports all.  Exit status 4 if there was one, in the "
	  "comparisons of --listing and --mappings too.\n"
	  "A difference is reported with the clause that decided, what near arguments would have come to, the last steps "
	  "that touched the objects it names, and a call of \"shell\" on the state in front of it.\n"
	  "FILE may be binary, or compressed with xz; - is standard input.  Of several files each is replayed in a process of "
	  "its own, --jobs N of them at a time, and told of in one line, in the order of the call; the exit status is that "
	  "of the first that did not pass, or 5.\n"
	  "With --from N the operations in front of the N-th are carried out and not compared; in a store that was there "
	  "before (--embedded=SNAPSHOT, --store NAME) they are left out.  With --to N it ends behind the N-th.\n"
	  "\tkvmctl replay recorded.kvt\n"
	  "\tkvmctl -e replay --jobs 4 --junit report.xml traces/*.kvt\n"
	  "\tkvmctl --embedded --check full=1000 replay recorded.kvt.xz\n"
	  "\tkvmctl replay boot.kvt --listing vmallocinfo --at SYNC1-begin\n",
	  OPT(keep_going) | OPT(keep) | OPT(listing) | OPT(mappings) | OPT(at) | OPT(listing_at) | OPT(mappings_at) | OPT(from) |
	      OPT(to) | OPT(jobs) | OPT(junit) | OPT(coverage),
	  1, INT_MAX, kvmctl_replay },
	{ "shell", "[--trace FILE]", "commands from a prompt, on one store",
	  "Each line is a call without its first word: any command, operation or request.  All work on one store, over "
	  "one connection: a cursor that is opened here stays until the shell ends.  A line that says itself where its store "
	  "is (--store, --connect, --embedded, --state-dir) works there.  quit or the end of input ends it.\n"
	  "On a terminal lines are edited, kept in a history, and completed with TAB: names, options, arguments, words, live "
	  "ids.  From anything else lines are read as they come, without a prompt, and the exit status is that of the first "
	  "that failed; --strict stops there.\n"
	  "With --embedded and --trace FILE the store is what the trace leaves behind its last operation, or that of --to.  "
	  "step [N] goes on by operations of the trace, back [N] goes back, where tells where it is.\n"
	  "\tkvmctl shell\n"
	  "\tkvmctl -e shell --trace boot.kvtb --to 1000\n",
	  OPT(trace) | OPT(from) | OPT(to) | OPT(strict), 0, 1, kvmctl_shell },
	{ "status", "", "state of the daemon and of the store",
	  "One key=value a line.  With --embedded=SNAPSHOT: of the store saved there.\n", 0, 0, 0, kvmctl_status_show },
	{ "store create", "NAME [key=value ...]", "create a store in the daemon",
	  "The keys are those of a trace's store line; they are fixed from here on:\n", 0, 1, INT_MAX,
	  kvmctl_store_create },
	{ "store list", "", "stores of the daemon", "One store a line.\n", 0, 0, 0, kvmctl_store_list },
	{ "store clone", "NAME [STEP]", "a new store like this one, now or behind STEP",
	  "What would have happened: the new store goes its own way, with a history of its own.  STEP is a number, last, or "
	  "last-N, and needs a journal.\n"
	  "\tkvmctl store clone what-if 1200\n",
	  0, 1, 2, kvmctl_store_clone },
	{ "store drop", "NAME", "end a store of the daemon, its snapshots and its history",
	  "There is no way back: on a terminal it asks first, unless --yes is given.  The store \"default\" cannot be "
	  "dropped.\n",
	  OPT(yes), 1, 1, kvmctl_store_drop },
	{ "snapshot save", "[FILE]", "save the store in the daemon's directory, or in FILE",
	  "Without FILE the daemon saves the store in its state directory.  FILE goes with --embedded: the store of "
	  "this call is saved there.\n"
	  "\tkvmctl --store lab snapshot save\n"
	  "\tkvmctl --embedded=a.db snapshot save b.db\n",
	  0, 0, 1, kvmctl_snapshot_save },
	{ "snapshot list", "[FILE]", "snapshots in the daemon's directory, or in FILE",
	  "One snapshot a line.  FILE needs no daemon.\n", 0, 0, 1, kvmctl_snapshot_list },
	{ "snapshot load", "[ID]", "put the daemon's store back to a snapshot",
	  "ID is that of \"snapshot list\"; without it the newest.  With a journal this is one more step, and \"undo 1\" takes "
	  "it back; without one what came after the snapshot is lost.\n"
	  "To work on a snapshot without a daemon give --embedded=FILE to any command.\n",
	  0, 0, 1, kvmctl_snapshot_load },
	{ "snapshot drop", "ID", "remove a snapshot of the daemon's store",
	  "ID is that of \"snapshot list\".  Snapshots that were asked for stay until they are dropped so; the daemon thins "
	  "out the others by itself.  One from which the journal goes on, or that alone has the store's newest state, "
	  "stays.  On a terminal it asks first, unless --yes is given.\n"
	  "\tkvmctl --store lab snapshot drop 12\n",
	  OPT(yes), 1, 1, kvmctl_snapshot_drop },
	{ "undo", "[N]", "put the daemon's store back by N steps",
	  "Without N by one.  This is one more step: the store is then what it was, ids that will be given included, and "
	  "its history keeps both, so that an undo can be undone.\n"
	  "\tkvmctl undo 3\n",
	  0, 0, 1, kvmctl_undo },
	{ "at", "STEP REQUEST [key=value ...]",
	  "ask the state behind any step of the past",
	  "Makes the state of the store behind STEP again, from the nearest snapshot and the journal, and asks it: any "
	  "request, answered as the store would have answered then.  STEP is a number, last, or last-N; 0 is the fresh "
	  "store.  Several requests stand in a word each, as with \"exec\"; - reads them from standard input.  --keep FILE saves the state in a snapshot file, for --embedded=FILE.\n"
	  "Exit status 6 if there is no such step, or its state cannot be made.\n"
	  "\tkvmctl at 1000 who-holds paddr=0x1000\n"
	  "\tkvmctl --state-dir /var/lib/kvmstore at last-1 census digest\n",
	  HISTORY_OPTIONS | OPT(keep), 2, INT_MAX, kvmctl_at },
	{ "log", "", "the recorded steps, as lines of a trace",
	  "One operation a line with its outcome, the number of the step, the connection that asked (0: the daemon "
	  "itself) and the time.  A step that put back an earlier state is a comment.  With several filters a step must "
	  "fit all.\n"
	  "A step touches a frame, an area or an address if it changed what is known of it (references, holders, "
	  "mappings), or names it: as an argument, in its result, or by a range that meets it.\n"
	  "--trace prints what led to the last state as a trace that can be replayed, without steps that were undone by "
	  "putting a state back; where filters leave steps out it has gap lines.\n"
	  "\tkvmctl log --from last-20\n"
	  "\tkvmctl log --frame 0x1000 --op kvirt-drop\n"
	  "\tkvmctl log --trace --to 500 > first500.kvt\n",
	  HISTORY_OPTIONS | OPT(from) | OPT(to) | OPT(op) | OPT(area) | OPT(frame) | OPT(va) | OPT(trace), 0, 0,
	  kvmctl_log },
	{ "diff", "STEP STEP | FILE FILE", "what is different in the states behind two steps, or in two files",
	  "Counts, areas, mappings, free addresses, page-table nodes, TLBs, frames, handles: + only in the second, - "
	  "only in the first, ~ in both and different.  Neighbours that changed alike are one range.\n"
	  "FILE is a snapshot or a memory image, as \"adopt\" takes it.\n"
	  "Exit status 0, whether there is a difference or not.\n"
	  "\tkvmctl diff 100 last\n"
	  "\tkvmctl diff before.ptpages.xz after.ptpages.xz\n"
	  "\tkvmctl --json diff last-1 last\n",
	  HISTORY_OPTIONS | IMAGE_OPTIONS, 2, 2, kvmctl_diff },
	{ "bisect", "'REQUEST [key=value ...] FIELD OP VALUE ...'", "the first step behind which something holds",
	  "Asks REQUEST of state after state and compares fields of the answer: OP is one of = != < <= > >=, without "
	  "blanks, and all comparisons must hold.  A list compared with a number is compared by its length.  A field "
	  "that the answer does not have fits no comparison, and a reference count of \"unused\" or \"unique\" is "
	  "neither less nor more than any.\n"
	  "A predicate may hold, fail and hold again, so every state from --from on is asked; what came before is not "
	  "looked at.  --monotonic halves the range instead, with a state made for each try: right only if the "
	  "predicate, once it holds, holds to the end of the range.\n"
	  "Exit status 1 if it holds nowhere.\n"
	  "\tkvmctl bisect 'frame paddr=0x1000 rc>2'\n"
	  "\tkvmctl bisect 'translate va=0xffffdfffffffd000 found=true prop=rw:wb'\n"
	  "\tkvmctl bisect --monotonic 'census areas>=100'\n",
	  HISTORY_OPTIONS | OPT(from) | OPT(to) | OPT(monotonic), 1, INT_MAX, kvmctl_bisect },
	{ "story", "frame PADDR | area ID | va VA", "every step that touched one thing, and what changed",
	  "The steps that \"log\" would print with the filter of that name, each with what changed: references and "
	  "holders of a frame and where it is mapped, leaves of an area, what an address reaches.\n"
	  "\tkvmctl story frame 0x1000\n"
	  "\tkvmctl story area 3 --from 100\n",
	  HISTORY_OPTIONS | OPT(from) | OPT(to), 2, 2, kvmctl_story },
	{ "export", "--sqlite FILE|--json [FILE]|--as FORM [FILE]", "all of a store, now or behind a step, as one file",
	  "Of the daemon's store, of the one in the file that --embedded names, or of one in a state directory; --step "
	  "takes the state behind any step of the past.\n"
	  "--sqlite makes a database for the sqlite3 shell: tables and views are those of kvmstore-state(5).  It is a "
	  "snapshot too, on which --embedded=FILE works.  --json makes one document to read, on standard output "
	  "without FILE or with -; kvmctl(1) documents its fields.  Numbers above 2^53 - 1 are strings there, and so "
	  "are addresses, in hex.\n"
	  "--as prints mappings or areas as a real system lists them: qemu-tlb and qemu-mem (\"info tlb\" and \"info "
	  "mem\" of the emulator), vmallocinfo, maps, pagemap, leaves (va,pa,size,entry,flags), ptdump (the kernel's "
	  "page_tables file); --table chooses the table.\n"
	  "A file that is there already is replaced with --force only.  Until the new one is complete, the old one "
	  "stays.\n"
	  "\tkvmctl export --sqlite now.db\n"
	  "\tkvmctl export --json --step 1000 | jq '.areas[] | select(.refs > 0)'\n"
	  "\tkvmctl --state-dir /var/lib/kvmstore export --sqlite then.db --step last-100\n",
	  HISTORY_OPTIONS | OPT(sqlite) | OPT(as) | OPT(table) | OPT(step) | OPT(force), 0, 1, kvmctl_export },
	{ "compare", "FILE", "a store's mappings against a listing of a real system",
	  "--from says what FILE is: qemu-tlb, qemu-mem, vmallocinfo, maps, pagemap, leaves; it may be compressed with xz, "
	  "- is standard input.  Addresses of the table's half of the address space count, of an adopted image those of both "
	  "halves (of the lower one, if FILE lists a process), or those of --range; --table chooses the table.  vmallocinfo "
	  "is compared with the areas.\n"
	  "Tells what is missing in the store (-), what only the store has (+), and what is different (~), neighbours "
	  "that are alike as one range, then the counts.  What a listing does not tell is not compared.  Exit status 4 "
	  "if there is a difference.\n"
	  "\tkvmctl compare --from qemu-tlb --range vmalloc info-tlb.txt.xz\n"
	  "\tkvmctl --embedded=a.db compare --from maps --partial --range user maps.txt\n",
	  HISTORY_OPTIONS | OPT(from) | OPT(table) | OPT(range) | OPT(with) | OPT(without) | OPT(partial) | OPT(memory) |
	      OPT(most) | OPT(step), 1, 1, kvmctl_compare },
	{ "dump-memory", "FILE", "write the page tables of a store as a memory image",
	  "FILE gets the pages that page tables lie in, and FILE.json what is needed to read them: architecture, levels, "
	  "the root of every table, also as the machine's register has it (cr3, satp, pgd).  FILE begins with the 8 bytes "
	  "PTPAGES1 and the number of pages; then each page follows its address; numbers are 64 bits, little-endian.  With "
	  "--raw FILE is memory itself, as large as it, with holes for the rest.\n"
	  "Of a daemon's store, or with --state-dir, the state behind --step is written; with --embedded=SNAPSHOT the store "
	  "saved there.  --table takes one table alone.\n"
	  "\tkvmctl --embedded=a.db dump-memory a.ptpages\n"
	  "\tkvmctl --state-dir /var/lib/kvmstore dump-memory --step 1000 --raw a.mem\n",
	  HISTORY_OPTIONS | OPT(table) | OPT(step) | OPT(raw) | OPT(all_memory), 1, 1, kvmctl_dump_memory },
	{ "adopt", "IMAGE [mappings | 'REQUEST ...' ...]", "make a store of another kernel's page tables",
	  "IMAGE holds the page tables of any kernel: a file as \"dump-memory\" writes it (PTPAGES1), an ELF core of a "
	  "virtual machine's memory, or physical memory as it is; each possibly compressed with xz.  Its words are read by "
	  "the hardware's rules.  Where the tables begin is taken from --cr3, --satp or --root, else from IMAGE.json (the "
	  ".xz and .bin of a name may be left out), else from the notes of the core.\n"
	  "Without further words it tells what there is and what is wrong with it, with the place of each flaw; what can "
	  "still be read is read.  With --strict a flaw is an error.  \"mappings\" prints every leaf; requests are "
	  "answered as \"exec\" does.  The report then goes to standard error.\n"
	  "-o STATE.db keeps the store in a snapshot file, for --embedded=STATE.db.  Such a store can be asked, compared "
	  "and dumped, and takes no operations.\n"
	  "Exit status 6 if the image cannot be read, or with --strict has a flaw.\n"
	  "\tkvmctl adopt guest.ptpages.xz -o guest.db\n"
	  "\tkvmctl --embedded=guest.db reverse_map paddr=0x2c22000\n"
	  "\tkvmctl adopt --cr3 0x7d08000 guest.mem mappings\n"
	  "\tkvmctl adopt --satp 0x9000100000088b58 core.elf check census\n",
	  IMAGE_OPTIONS | OPT(strict) | OPT(output) | OPT(table) | OPT(verbose),
	  1, INT_MAX, kvmctl_adopt },
	{ "mappings", "", "every leaf of a page table, as CSV",
	  "The columns are va,pa,size,entry,flags: entry is the word as it stands in memory; flags are r w x, u (x86: k "
	  "without it), g, on x86 c (PCD) and t (PWT), a, d, or - for each that is not there.  Of an adopted store r, w, x "
	  "and u are what all levels together leave.\n"
	  "The store is found as with \"dump-memory\"; --table names an address space instead of the kernel's table.\n"
	  "\tkvmctl --embedded=guest.db mappings -o guest.csv\n",
	  HISTORY_OPTIONS | OPT(table) | OPT(step) | OPT(output), 0, 0, kvmctl_mappings },
	{ "trace import", "FOLDER|FILE", "make a trace of a real system's recording",
	  "Reads a recording made with Linux's function tracer: the text of its trace buffer, or a folder with "
	  "trace.txt, snap-0/vmallocinfo and mappings.0.csv, each possibly compressed with xz.  What became of every "
	  "event is reported on standard error, and where the recording contradicts itself; --strict stops there: exit "
	  "status 6.\n"
	  "--from strace takes the text of \"strace -f -ttt\" instead: what processes do to their address spaces.  "
	  "--mappings-before is /proc/PID/maps of the first of them then.  --strict stops also at the first call that "
	  "cannot be expressed.\n"
	  "\tkvmctl trace import --from linux-ftrace recording/ -o recording.kvt\n"
	  "\tkvmctl trace import --from strace python.strace -o python.kvt\n",
	  OPT(output) | OPT(from) | OPT(areas_before) | OPT(mappings_before) | OPT(memory) | OPT(strict) | OPT(populate),
	  1, 1, kvmctl_trace_import },
	{ "trace gen", "[key=value ...]", "generate a trace of random operations",
	  "Needs no daemon.  The keys configure the store, as in \"store create\".  The same options give the same trace "
	  "on every machine.\n"
	  "With --until-covered the exit status is 1 if an outcome has not come within --steps operations.\n"
	  "\tkvmctl trace gen --seed 7 --steps 5000 arch=riscv64_sv48 -o random.kvt\n"
	  "\tkvmctl trace gen --profile munmap --clients 3 ncpu=4\n"
	  "\tkvmctl trace gen --until-covered --steps 60000 rc_max=3 -o all.kvt\n",
	  OPT(output) | OPT(profile) | OPT(seed) | OPT(steps) | OPT(arch) | OPT(illegal) | OPT(clients) |
	      OPT(until_covered),
	  0, INT_MAX, kvmctl_trace_gen },
	{ "trace stat", "FILE", "a trace in figures",
	  "Runs the trace on a store of its own in this process and counts: operations by outcome; what was alive, at the "
	  "end and at most; page-table memory by level; how free addresses fell to pieces; sizes and lifetimes of "
	  "areas; and all that over time, at most 24 samples or one every --every steps.  --csv writes the samples "
	  "alone, --leaks adds what is still held at the end and by whom, grouped by the annotation @src.\n"
	  "Exit status 4 if outcomes are not what the trace records.  - is standard input.\n"
	  "\tkvmctl trace stat recording.kvt\n"
	  "\tkvmctl trace stat recording.kvt --csv --every 100 -o timeline.csv\n"
	  "\tkvmctl trace stat recording.kvt --leaks=folded > leaks.folded\n",
	  OPT(output) | OPT(csv) | OPT(every) | OPT(leaks), 1, 1, kvmctl_trace_stat },
	{ "trace policy", "FILE", "the areas of a trace under other ways to allocate addresses",
	  "Runs the trace and gives every area it makes in the first vmalloc range to each policy: first-fit-top "
	  "(upstream's, and so the model's), first-fit-bottom (lowest is another name for it), best-fit, best-fit-top, "
	  "worst-fit, next-fit, highest.  Tells for each what failed, how far the areas spread, how much of that span "
	  "was free, and what a search costs: blocks that a scan looks at, and nodes of balanced trees.\n"
	  "Areas whose address the trace asks for are placed like all others; --fixed leaves them where they are.\n"
	  "\tkvmctl trace policy recording.kvt\n"
	  "\tkvmctl trace policy recording.kvt --alloc best-fit,highest --csv --every 100\n",
	  OPT(output) | OPT(csv) | OPT(every) | OPT(alloc) | OPT(fixed), 1, 1, kvmctl_trace_policy },
	{ "trace coverage", "FILE...", "which outcomes and laws traces reach",
	  "Runs each trace on a store of its own and tells, of all together: which outcomes each operation gave of those "
	  "it can give, and which never; how many laws its steps put to the test, which no step did; which requests "
	  "expect lines ask.  --quiet prints the totals alone, --json every cell with its laws.\n"
	  "Exit status 1 if less than --fail-under percent of the outcomes were reached.\n"
	  "\tkvmctl trace coverage tests/traces/*.kvt\n"
	  "\tkvmctl trace coverage --quiet --fail-under 80 corpus/*.kvt\n",
	  OPT(output) | OPT(fail_under), 1, INT_MAX, kvmctl_trace_coverage },
	{ "trace shrink", "FILE", "the shortest trace that still fails in the same way",
	  "Takes operations out, then makes what is left small and plain: numbers, addresses, lists, the configuration.  "
	  "Needs no daemon: every try runs in this process on a fresh store.  What names something that is gone goes "
	  "too; ids are numbered anew; the outcomes are those of what is left.\n"
	  "What failing means: a recorded outcome that is not the model's (--while-diverges), a law that breaks "
	  "(--while-law-breaks), or what a command says (--while).  It must be the same failure: the same operation, and "
	  "the same names of outcomes, the same field, or the same law.\n"
	  "Without --recorder nobody is asked again what the kernel would do: what the model gives, where the two "
	  "differ, stays as it is, and so does what was recorded; of the operations before it those stay that the "
	  "model needs for that.  With --recorder the command plays each try to the kernel, and so finds the "
	  "operations that make the kernel go wrong.\n"
	  "SIGINT ends the search; what there is by then is written.  Exit status 1 if FILE does not fail.\n"
	  "\tkvmctl trace shrink bad.kvt --while-diverges -o small.kvt\n"
	  "\tkvmctl trace shrink bad.kvt --while-diverges --recorder './kernel --play {}'\n"
	  "\tkvmctl trace shrink bad.kvt --while './still-fails {}'\n",
	  OPT(output) | OPT(while) | OPT(while_diverges) | OPT(while_law_breaks) | OPT(recorder), 1, 1,
	  kvmctl_trace_shrink },
	{ "trace record", "", "the steps of a store as a trace, also as they happen",
	  "Reads the history of the daemon's store, or with --state-dir that of any store, from its first step or --from, "
	  "to its last or --to.  With --live it goes on with what happens, until SIGINT or SIGTERM, and then ends the "
	  "file; without --from it begins with the next step.  A trace that does not begin with a fresh store has a base line, "
	  "and with -o FILE that state is saved in FILE.base.db.\n"
	  "A step that put back an earlier state (undo, snapshot load) is no operation.  Of the past, the steps that "
	  "were undone so are left out.  A live recording ends there and says so.\n"
	  "\tkvmctl trace record -o session.kvtb\n"
	  "\tkvmctl trace record --live -o live.kvtb\n"
	  "\tkvmctl --state-dir state trace record --from 100 --to 200 -o piece.kvt\n",
	  HISTORY_OPTIONS | OPT(output) | OPT(binary) | OPT(from) | OPT(to) | OPT(live), 0, 0, kvmctl_trace_record },
	{ "trace convert", "FROM TO", "a trace as text, or in the binary form",
	  "TO is binary if its name ends in .kvtb or with --binary, else text in canonical form; FROM is what its first bytes "
	  "say, whatever its name.  Nothing is lost either way: comments, annotations, expectations and gaps are kept.  - "
	  "is standard input or output.\n"
	  "With --from and --to only those operations, counted from 1, and what stands behind them; a gap line stands for "
	  "what is missing in front.  In a binary trace that piece is found without reading what comes before.\n"
	  "A binary trace that its writer did not end is read up to its last whole frame.\n"
	  "\tkvmctl trace convert recorded.kvt recorded.kvtb\n"
	  "\tkvmctl trace convert --from 1000000 --to 1000020 recorded.kvtb -\n",
	  OPT(binary) | OPT(from) | OPT(to), 2, 2, kvmctl_trace_convert },
	{ "trace export", "FILE", "a trace as a time line, for a model checker, or as a table",
	  "Runs the trace on a store of its own and writes one of: --chrome, a time line in the Trace Event Format, which "
	  "Perfetto and about:tracing show: operations by CPU or connection, what is alive as slices, counters; --itf, "
	  "the states in the Informal Trace Format of Apalache and Quint; --csv, a record for each operation.  --from and "
	  "--to choose steps by their number.\n"
	  "Exit status 4 if outcomes are not what the trace records.\n"
	  "\tkvmctl trace export recording.kvt --chrome -o recording.json\n"
	  "\tkvmctl trace export recording.kvt --itf --from 100 --to 120 -o states.itf.json\n",
	  OPT(output) | OPT(chrome) | OPT(itf) | OPT(csv) | OPT(from) | OPT(to), 1, 1, kvmctl_trace_export },
	{ "trace diff", "FILE FILE", "where two traces, and the states they end in, differ",
	  "Runs each on a store of its own.  Tells which operations only one of them has or has with other arguments, and "
	  "which of those that both have came out differently, field by field; then how the states at the end differ, as "
	  "\"diff\" does.  Ids are compared by what they stand for, not by number.  What the traces record of outcomes is "
	  "not looked at.\n"
	  "Exit status 4 if anything differs.\n"
	  "\tkvmctl trace diff before.kvt after.kvt\n"
	  "\tkvmctl --json trace diff - recording.kvt < other.kvt\n",
	  0, 2, 2, kvmctl_trace_diff },
	{ "help", "[TOPIC]", "explain a command, operation, request, outcome, law",
	  "Topics beside those names: ops, requests, outcomes, laws, types, options.\n", OPT(markdown), 0, 3,
	  kvmctl_help },
	{ "gaps", "[WORD]...", "where specification, kernel and model differ",
	  "Lists the entries of docs/gaps.md, or those that hold every WORD, in whatever case.  Needs no daemon.\n"
	  "\tkvmctl gaps tlb\n"
	  "\tkvmctl gaps cursor_unmap count\n",
	  0, 0, INT_MAX, kvmctl_gaps },
	{ "version", "", "print the version", "", 0, 0, 0, kvmctl_version_show },
};

#define COUNT (sizeof commands / sizeof commands[0])

const struct kvmctl_command *
kvmctl_command_row(unsigned index)
{
	return index < COUNT ? &commands[index] : NULL;
}

kvmctl_options
kvmctl_row_options(bool is_request)
{
	return is_request ? 0 : OPT(keep) | OPEN_OPTIONS;
}

/* Do "name" and "word" agree, '-' and '_' being the same, up to the end of "word" and a blank or the end of "name"? */
static bool
same_word(const char *name, const char *word)
{
	for (; *word != '\0'; name++, word++)
		if (*name != *word && !(*name == '-' && *word == '_') && !(*name == '_' && *word == '-'))
			return false;
	return *name == '\0' || *name == ' ';
}

const struct kvmctl_command *
kvmctl_command_find(int words, char *const *word, int *used)
{
	for (unsigned i = 0; i < COUNT; i++) {
		const char *second = strchr(commands[i].name, ' ');

		*used = second == NULL ? 1 : 2;
		if (words < *used || word[0][0] == '\0' || !same_word(commands[i].name, word[0]))
			continue;
		if (second == NULL || (word[1][0] != '\0' && same_word(second + 1, word[1])))
			return &commands[i];
	}
	return NULL;
}

const struct kvms_row *
kvmctl_row_find(const char *word, bool *is_request)
{
	const struct kvms_row *row;

	for (unsigned code = 1; word[0] != '\0' && code <= kvms_op_max(); code++) {
		row = kvms_op_row(code);
		*is_request = false;
		if (row != NULL && same_word(row->name, word))
			return row;
	}
	for (unsigned code = 1; word[0] != '\0' && code <= kvms_request_max(); code++) {
		row = kvms_request_row(code);
		*is_request = true;
		if (row != NULL && same_word(row->name, word))
			return row;
	}
	return NULL;
}

void
kvmctl_guess_rows(struct kvmctl_guess *guess)
{
	for (unsigned code = 1; code <= kvms_op_max(); code++)
		if (kvms_op_row(code) != NULL)
			kvmctl_guess_try(guess, kvms_op_row(code)->name);
	for (unsigned code = 1; code <= kvms_request_max(); code++)
		if (kvms_request_row(code) != NULL)
			kvmctl_guess_try(guess, kvms_request_row(code)->name);
}

void
kvmctl_guess_commands(struct kvmctl_guess *guess)
{
	for (unsigned i = 0; i < COUNT; i++)
		kvmctl_guess_try(guess, commands[i].name);
}

/* The commands whose first word is "word": how many, having listed them. */
static unsigned
list_group(const char *word, bool complete)
{
	unsigned found = 0;

	for (unsigned i = 0; word[0] != '\0' && i < COUNT; i++) {
		if (strchr(commands[i].name, ' ') == NULL || !same_word(commands[i].name, word))
			continue;
		if (found++ == 0)
			kvmctl_complain(complete ? "\"%s\" has no such command; it has" : "\"%s\" needs one of", word);
		fprintf(stderr, "  kvmctl %s%s%s\n", commands[i].name, commands[i].synopsis[0] != '\0' ? " " : "",
			commands[i].synopsis);
	}
	return found;
}

void
kvmctl_command_unknown(int words, char *const *word)
{
	struct kvmctl_guess guess = { .word = word[0] };
	char shown[KVMCTL_SHOWN];

	if (list_group(word[0], words > 1) > 0)
		return;
	if (strchr(word[0], ' ') != NULL || strchr(word[0], '=') != NULL) {
		kvmctl_complain("'%s' is no command; for a whole operation in one word: kvmctl exec '%s'",
				kvmctl_shown(shown, word[0]), shown);
		return;
	}
	kvmctl_guess_commands(&guess);
	kvmctl_guess_rows(&guess);
	if (guess.best != NULL)
		kvmctl_complain("unknown command '%s'; did you mean '%s'?", kvmctl_shown(shown, word[0]), guess.best);
	else
		kvmctl_complain(
		    "unknown command '%s'; \"kvmctl help\" lists the commands, \"kvmctl help ops\" the operations",
		    kvmctl_shown(shown, word[0]));
}
