#!/bin/bash
# tools/coverage: what tests/coverage-exceptions names is there, and the tool
# says no where it should.  A made-up gcov stands for the real one.
. "$(dirname "$0")/e2e.sh"

# run STATUS WORD...: tools/coverage WORD... ends with STATUS; all it says is in out
run() {
	ends "$1" sh "$top/tools/coverage" "${@:2}"
	cat err >> out
}

# the file as it is
run 0 --check

# --- what an exception may name -----------------------------------------------------

export COVERAGE_EXCEPTIONS=$scratch/exceptions
except() {
	printf '%s\n' '# reasons' '' "$@" > exceptions
}
except "store/pool.c: #include -- the first lines"
run 0 --check
except 'store/apply.c: run() -- a function' 'store/op_frame.c: STEP_frame_clone() -- the step of an operation'
run 0 --check
except 'store/apply.c: walk_of_nothing() -- why'
run 1 --check
says out 'exceptions:3: store/apply.c has no walk_of_nothing()'
except 'store/apply.c: run(): return KVMS_BROKEN; -- a line of a function'
run 0 --check
except 'store/apply.c: run(): no such text, ever -- why'
run 1 --check
says out 'has no no such text'
except 'store/apply.c: no such text, ever -- why'
run 1 --check
says out 'has no no such text'
except 'store/nothing.c: text -- why'
run 1 --check
says out 'there is no store/nothing.c'
except 'store/apply.c: run()'
run 1 --check
says out 'expected FILE: TEXT -- REASON'
except 'store/apply.c: run() -- '
run 1 --check
rm exceptions
run 1 --check
says out 'cannot read'

# --- the report: 100 lines of store/apply.c, some of which did not run ------------------

cat > gcov << 'END'
#!/bin/sh
echo '        -:    0:Source:/somewhere/store/apply.c'
echo '        -:    1:/*'
line=101
while [ $line -le 200 ]; do
	case " $MISSED " in
	*" $line "*) count='#####' ;;
	*) count=7 ;;
	esac
	printf '%9s:%5d:text\n' "$count" $line
	line=$((line + 1))
done
echo '        -:    0:Source:proto/kvmstore.pb-c.c'
echo '    #####:    1:text'
END
chmod +x gcov
export GCOV=$scratch/gcov MISSED=
mkdir -p tree/store
except
run 1 tree
says out 'not built with ./configure --enable-coverage'
touch tree/store/apply.gcno
run 1 tree
says out 'nothing ran'
touch tree/store/apply.gcda
run 0 tree
says out 'store/apply.c                       100 of    100 lines  100.00 %'
says out 'store/: 100.00 % of the lines run'

# a line of run(), which has no reason, then one, then one that is for nothing
line=$(grep -n '^run(' "$top/store/apply.c" | cut -d: -f1)
export MISSED=$((line + 2))
run 1 tree
says out "store/apply.c:$MISSED:"
says out '(no reason given)'
says out '1 lines of store/ did not run and have no reason'
except 'store/apply.c: run() -- cannot happen'
run 0 tree
says out '	cannot happen'
says out '1 lines, 0 of them without a reason'
MISSED=
run 1 tree
says out 'every such line runs: store/apply.c: run()'

# 95 of 100 will do, 94 will not
MISSED=
for ((line = 101; line <= 200 && $(wc -w <<< "$MISSED") < 5; line++)); do
	sed -n "${line}p" "$top/store/apply.c" | grep -q e && MISSED="$MISSED $line"
done
except 'store/apply.c: e -- nearly anything'
run 0 tree
says out 'store/: 95.00 % of the lines run'
for ((; line <= 200 && $(wc -w <<< "$MISSED") < 6; line++)); do
	sed -n "${line}p" "$top/store/apply.c" | grep -q e && MISSED="$MISSED $line"
done
run 1 tree
says out 'store/ is below 95 percent'

# no gcov
GCOV=$scratch/no-gcov
run 1 tree
says out 'on Debian it comes with gcc'

finish
