#!/bin/bash
# The commands that look at whole traces, as their users call them, on the
# bundled recording of a real kernel and on traces with mistakes: trace stat,
# coverage, policy, export, diff.
. "$(dirname "$0")/e2e.sh"

recording=$top/data/linux-6.12-x86_64-4level

python=
if command -v python3 > /dev/null; then
	python=1
else
	echo "no python3: the syntax of JSON and CSV was not looked at"
fi

# json FILE PROGRAM: the file is one JSON document, and the Python program on it as d does not fail
json() {
	[ -z "$python" ] || check python3 -c "
import json, sys
d = json.load(open('$1', encoding='utf-8'))
$2"
}

run 0 trace import --from linux-ftrace "$recording" -o linux.kvt
# operations in it, areas it leaves, and an operation to leave out
ops=$(grep -Evc '^(#|kvmtrace |store |expect |gap|$)' linux.kvt)
run 0 --embedded --json replay linux.kvt
areas=$(sed 's/.*"areas":\([0-9]*\).*/\1/' out)
line=$(awk '$1 == "kvirt_reserve_at" && ++n == 50 { print NR }' linux.kvt)
checks=$((checks + 1))
[ "$ops" -gt 50000 ] && [ "$areas" -gt 100 ] && [ "$line" -gt 50 ] || failure "$ops operations, $areas areas, line $line"

# --- stat --------------------------------------------------------------------------------

run 0 trace stat linux.kvt
says out "  kvirt_reserve_at                                  $(grep -c '^kvirt_reserve_at ' linux.kvt)"
says out "; by level 4: 1, 3: 256, 2: "
narrow out
run 0 trace stat linux.kvt --leaks
says out "still held"
says out "area kvirt_reserve_at modprobe"
narrow out
run 0 --json trace stat linux.kvt --leaks
mv out stat.json
json stat.json "
assert d['statistics']['ops'] == $ops
assert sum(o['steps'] for o in d['operations']) == $ops
assert d['end']['census']['areas'] == $areas
assert d['most']['areas']['count'] > $areas
assert d['areas']['made'] - d['areas']['ended'] == $areas
assert sum(h['count'] for h in d['areas']['pages']) == d['areas']['made']
assert sum(h['count'] for h in d['areas']['lived_steps']) == d['areas']['ended']
assert sum(d['nodes'].values()) == d['end']['census']['pagetable']
assert 12 <= len(d['samples']) < 24
assert sum(l['objects'] for l in d['leaks'] if l['kind'] == 'area') == $areas
assert sum(l['frames'] for l in d['leaks']) == d['end']['census']['frame']"
run 0 trace stat linux.kvt --leaks=folded
says out "modprobe;kvirt_reserve_at;area "
mv out folded
run 0 --embedded --quiet --keep linux.db replay linux.kvt
run 0 --embedded=linux.db census
checks=$((checks + 1))
grep -q " frame=$(awk '{ sum += $NF } END { print sum }' folded) " out || failure "the folded stacks do not add up"
run 0 trace stat linux.kvt --csv --every 10000
lines out $((2 + ops / 10000))
run 0 trace stat linux.kvt --every 10000 -o sampled
says sampled "over time"
run 2 trace stat linux.kvt --leaks=tree
run 2 trace stat linux.kvt --csv --leaks
run 2 trace stat linux.kvt --every x

# --- policy --------------------------------------------------------------------------------

run 0 trace policy linux.kvt
says out " had an address of their own, placed anew"
narrow out
run 0 --json trace policy linux.kvt --fixed --alloc first-fit-top,best-fit,first-fit-top
mv out policy.json
json policy.json "
assert [p['policy'] for p in d['policies']] == ['first-fit-top', 'best-fit']
for p in d['policies']: assert p['moved'] == p['failed'] == 0 and p['allocated'] == d['areas'] > 1000"
run 0 trace policy linux.kvt --alloc lowest --csv --every 20000
says out "20000,first-fit-bottom,"
run 2 trace policy linux.kvt --alloc first-fit
says err "first-fit-top, first-fit-bottom"
run 2 trace policy linux.kvt --alloc ,

# --- coverage ------------------------------------------------------------------------------------

find "$top/tests/traces" -name '*.kvt' | LC_ALL=C sort > traces
mapfile -t traces < traces
run 0 trace coverage "${traces[@]}" --fail-under 50
says out "${#traces[@]} traces"
narrow out
run 1 trace coverage --quiet --fail-under 99.9 linux.kvt
says err "outcomes are less than 99.9 %"
run 0 --json trace coverage linux.kvt
mv out coverage.json
json coverage.json "
cells = [c for o in d['by_operation'] for c in o['outcomes']]
assert len(cells) == d['outcomes']['of']
assert sum(c['steps'] > 0 for c in cells) == d['outcomes']['reached'] >= 9
assert sum(c['steps'] for c in cells) == d['steps'] == $ops
assert 'area.disjoint' not in d['laws_untested'] and 'list.size' in d['laws_untested']"
run 2 trace coverage linux.kvt --fail-under 101

# --- export -----------------------------------------------------------------------------------------

run 0 trace export linux.kvt --chrome -o chrome.json
says err "$ops operations written"
json chrome.json "
names, open_, ops = {}, {}, 0
for e in d['traceEvents']:
    assert e['ph'] in 'MbeiXC' and type(e['ts']) in (int, float) and e['ts'] >= 0
    assert type(e['pid']) is int and type(e['tid']) is int and e['name']
    if e['ph'] == 'M': names[e['name'], e['pid'], e['tid']] = e['args']['name']
    if e['ph'] in 'be': key = (e['cat'], e['id'])
    if e['ph'] == 'b':
        assert key not in open_
        open_[key] = e['ts']
    if e['ph'] == 'e': assert open_.pop(key) <= e['ts']
    if e['ph'] == 'X': assert e['dur'] >= 0
    if e['ph'] == 'i': assert e['s'] == 't'
    if e['ph'] == 'C': assert all(type(v) is int for v in e['args'].values())
    ops += e['ph'] in 'iX'
assert not open_ and ops == $ops
assert names['thread_name', 1, 1] == 'CPU 0'"
run 0 trace export linux.kvt --itf --from 1000 --to 1019 -o itf.json
json itf.json "
assert d['#meta']['format'] == 'ITF' and len(d['states']) == 21
def sound(v):
    if isinstance(v, dict):
        if '#bigint' in v: assert list(v) == ['#bigint'] and str(int(v['#bigint'])) == v['#bigint']
        elif '#map' in v: assert list(v) == ['#map'] and all(len(p) == 2 for p in v['#map'])
        for x in v.values(): sound(x)
    elif isinstance(v, list):
        for x in v: sound(x)
    else: assert isinstance(v, (str, bool))
for i, s in enumerate(d['states']):
    assert s.pop('#meta') == {'index': i} and set(s) == set(d['vars'])
    assert s['step'] == {'#bigint': str(999 + i)}
    assert {'#bigint': str(len(s['areas']['#map']))} == s['counts']['areas']
    sound(s)"
run 0 trace export linux.kvt --csv --to 5000
mv out table.csv
[ -z "$python" ] || check python3 -c "
import csv
rows = list(csv.DictReader(open('table.csv', newline=''), strict=True))
assert len(rows) == 5000 and rows[4999]['step'] == '5000'
assert not any(None in r or None in r.values() for r in rows)
assert any(r['src'].startswith('older than the trace: ') and r['area'] == '1' for r in rows)"
run 2 trace export linux.kvt
run 2 trace export linux.kvt --csv --itf
run 2 trace export linux.kvt --csv --from 5 --to 4

# --- diff ---------------------------------------------------------------------------------------------

run 0 trace diff linux.kvt linux.kvt
says out "both end in the same state"
sed "${line}d" linux.kvt > other.kvt
run 4 trace diff linux.kvt other.kvt
says out "linux.kvt:$line (step "
says out ": only in the first"
says out "  - kvirt_reserve_at start="
run 4 --json trace diff linux.kvt other.kvt
lines out 1
mv out diff.json
json diff.json "
assert d['ops'] == [$ops, $ops - 1] and d['only'] == [1, 0]
assert d['differences'][0]['first']['line'] == $line and d['differences'][0]['second'] is None
assert not d['state']['same'] and d['state']['areas']"
printf 'kvmtrace 1\nframe_alloc -> ok frame=1\nframe_drop frame=1 -> ok last=true\n' > short.kvt
checks=$((checks + 1))
cp short.kvt copy.kvt
"$kvmctl" --quiet trace diff - copy.kvt < short.kvt > out 2> err || failure "trace diff - FILE"
run 2 trace diff - -
run 2 trace diff short.kvt

# --- every one of them: standard input, differences, mistakes -------------------------------------------

printf 'kvmtrace 1\nframe_alloc -> ok paddr=0x5000\n' > wrong.kvt
printf 'kvmtrace 1\nframe_alloc\nframe_drop frame=x\n' > mistake.kvt
printf 'kvmtrace 1\nstore max_paddr=1\nframe_alloc\n' > limits.kvt
for command in stat policy coverage 'export --chrome' 'export --itf' 'export --csv'; do
	# shellcheck disable=SC2086 # the words of a command
	set -- trace $command
	checks=$((checks + 1))
	"$kvmctl" "$@" - < short.kvt > out 2> err || failure "kvmctl $* -"
	run 4 "$@" wrong.kvt
	says err "wrong.kvt: 1 of its lines record something else than what comes out, the first is line 2"
	run 2 "$@" mistake.kvt
	says err "mistake.kvt:3:18: expected u64 (decimal or 0x hex), found 'x'"
	run 2 "$@" limits.kvt
	says err "limits.kvt:2:1: max_paddr out of limits"
	run 6 "$@" nowhere.kvt
	run 6 "$@" short.kvt -o nowhere/out
	# what is read is never written over, by whatever name
	cp short.kvt mine.kvt
	run 2 "$@" mine.kvt -o ./mine.kvt
	says err "mine.kvt and ./mine.kvt are one file: write to another"
	same short.kvt mine.kvt
	if [ -w /dev/full ]; then
		"$kvmctl" "$@" short.kvt > /dev/full 2> err
		equal $? 6
		says err 'No space left on device'
	fi
	: > empty.kvt
	run 2 "$@" empty.kvt
	says err "empty.kvt:1:1: expected 'kvmtrace 1', found end of file"
	run 0 "$@" --quiet short.kvt
	is_json=1
	[ "${command#export}" = "$command" ] || is_json=
	if [ -n "$is_json" ]; then
		run 0 "$@" --json short.kvt
		json out ""
	fi

	run 0 help "$1" "${2%% *}"
done
run 2 trace diff short.kvt mistake.kvt
says err "mistake.kvt:3:18: expected u64 (decimal or 0x hex), found 'x'"
run 2 trace diff limits.kvt short.kvt
says err "limits.kvt:2:1: max_paddr out of limits"
run 6 trace diff nowhere.kvt short.kvt
# a file that cannot be finished is not left behind
run 2 trace export mistake.kvt --csv -o left.csv
absent left.csv

finish
