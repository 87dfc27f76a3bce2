# Draw the plots of a benchmark into the current folder; bench/run calls it.
#
#   gnuplot -e "benchmark = 'scale'; points = 'FOLDER/'" plot.gp
#
# FOLDER has the files of points that the benchmark wrote (bench_data() in
# bench/bench.h): what or where, median, least, most; two blank lines between
# series.  A whisker reaches from the least round to the largest.

set datafile separator tab
set encoding utf8

# Okabe and Ito's colours, which the colour-blind tell apart.
BLUE = '#0072b2'
ORANGE = '#d55e00'
GREEN = '#009e73'
PURPLE = '#cc79a7'
YELLOW = '#e69f00'
SKY = '#56b4e9'
BLACK = '#333333'
do for [i = 1:7] {
	set style line i linewidth 2 pointtype (word('7 5 9 11 13 4 6', i) + 0) pointsize 0.7 \
		linecolor rgb word(BLUE . ' ' . ORANGE . ' ' . GREEN . ' ' . PURPLE . ' ' . YELLOW . ' ' . SKY . ' ' . BLACK, i)
}

# page(FILE, WIDTH, HEIGHT) is evaluated, not called: set is a command
page(file, width, height) = sprintf( \
	"set output; set terminal svg size %d,%d font 'sans-serif,14' background '#ffffff'; set output '%s'", \
	width, height, file)
set border 3 linecolor rgb BLACK
set tics nomirror out
set grid ytics linecolor rgb '#dddddd'
set key outside right center vertical Left reverse samplen 2 spacing 1.2 noenhanced
set bars small

if (benchmark eq 'scale') {
	eval page('scale-operations.svg', 900, 480)
	set logscale xy
	set format x '10^{%T}'
	set xlabel 'mappings in the store'
	set ylabel 'nanoseconds'
	set title 'An operation, laws checked, and a translation, on pages at random'
	set xrange [700:1.3e7]
	plot points . 'operations' \
		   index 4 using 1:2:3:4 with yerrorlines linestyle 4 title 'an area of a page and back', \
		'' index 1 using 1:2:3:4 with yerrorlines linestyle 1 title 'map', \
		'' index 3 using 1:2:3:4 with yerrorlines linestyle 3 title 'unmap', \
		'' index 2 using 1:2:3:4 with yerrorlines linestyle 2 title 'protect', \
		'' index 0 using 1:2:3:4 with yerrorlines linestyle 5 title 'frame_alloc', \
		'' index 5 using 1:2:3:4 with yerrorlines linestyle 6 title 'translate, a request', \
		'' index 6 using 1:2:3:4 with yerrorlines linestyle 7 title 'kvms_translate, many'

	eval page('scale-checks.svg', 800, 420)
	set ylabel 'milliseconds'
	set title 'A whole store'
	plot points . 'checks' \
		   index 0 using 1:2:3:4 with yerrorlines linestyle 1 title 'full check', \
		'' index 1 using 1:2:3:4 with yerrorlines linestyle 2 title 'image for a snapshot'

	eval page('scale-areas.svg', 900, 480)
	set xrange [700:1.3e6]
	set xlabel 'live areas, with as many holes'
	set ylabel 'microseconds'
	set title 'Reserve an area and give it back'
	plot points . 'areas' \
		   index 5 using 1:2:3:4 with yerrorlines linestyle 2 title 'first fit, 100 pages', \
		'' index 4 using 1:2:3:4 with yerrorlines linestyle 5 title 'first fit, a page', \
		'' index 3 using 1:2:3:4 with yerrorlines linestyle 1 title 'touched laws, 100 pages', \
		'' index 2 using 1:2:3:4 with yerrorlines linestyle 6 title 'touched laws, a page', \
		'' index 1 using 1:2:3:4 with yerrorlines linestyle 3 title 'laws off, 100 pages', \
		'' index 0 using 1:2:3:4 with yerrorlines linestyle 7 title 'laws off, a page'

	eval page('scale-connections.svg', 800, 420)
	unset logscale y
	set xlabel 'connections'
	set ylabel 'thousand requests a second'
	set format x '%g'
	set xrange [8:1300]
	set yrange [0:*]
	set title 'translate and GET, requests ahead on each connection'
	plot points . 'connections' \
		   index 2 using 1:2:3:4 with yerrorlines linestyle 1 title 'kvmstored, 16 ahead', \
		'' index 3 using 1:2:3:4 with yerrorlines linestyle 2 title 'Redis, 16 ahead', \
		'' index 0 using 1:2:3:4 with yerrorlines linestyle 6 title 'kvmstored, 1 ahead', \
		'' index 1 using 1:2:3:4 with yerrorlines linestyle 5 title 'Redis, 1 ahead'
}

# Panels side by side: panel(I, N, ROOM) leaves ROOM of the width for the legend on the right.
panel(i, n, room) = sprintf('set lmargin at screen %f; set rmargin at screen %f; set tmargin at screen 0.83; set bmargin at screen 0.17', \
	0.08 + (0.92 - room) / n * i, 0.08 + (0.92 - room) / n * (i + 1) - 0.05)
legend = "set key at screen 0.99,0.6 right top vertical Left reverse samplen 2 spacing 1.3 noenhanced"

if (benchmark eq 'socket') {
	do for [kind in 'lookups writes'] {
		peak = 0
		do for [connections in '1 8 50'] {
			set yrange [*:*]
			stats points . kind . '-' . connections using 4 nooutput
			peak = STATS_max > peak ? STATS_max : peak
		}
		eval page('socket-' . kind . '.svg', 1100, 420)
		set multiplot
		set logscale x 2
		set xtics (1, 16, 64, 256)
		set xrange [0.8:320]
		set yrange [0:1.05 * peak]
		set xlabel 'requests ahead'
		set label 1 (kind eq 'lookups' ? 'One lookup a request' : 'One write a request') \
			at screen 0.44, 0.96 center font ',16'
		unset key
		do for [i = 0:2] {
			eval panel(i, 3, 0.20)
			set title word('1 8 50', i + 1) . (i == 0 ? ' connection' : ' connections')
			if (i == 0) {
				set ylabel 'thousand requests a second' offset 1.5
			} else {
				unset ylabel
				unset label 1
			}
			if (i == 2) {
				eval legend
			}
			if (kind eq 'lookups') {
				plot points . kind . '-' . word('1 8 50', i + 1) \
					   index 0 using 1:2:3:4 with yerrorlines linestyle 1 title 'kvmstored translate', \
					'' index 1 using 1:2:3:4 with yerrorlines linestyle 2 title 'Redis GET', \
					'' index 2 using 1:2:3:4 with yerrorlines linestyle 3 title 'memcached get'
			} else {
				plot points . kind . '-' . word('1 8 50', i + 1) \
					   index 0 using 1:2:3:4 with yerrorlines linestyle 1 title 'kvmstored map, unmap', \
					'' index 1 using 1:2:3:4 with yerrorlines linestyle 2 title 'Redis SET'
			}
		}
		unset multiplot
	}
}

if (benchmark eq 'memory') {
	stats points . 'translate-hot' using 2 nooutput
	ways = STATS_records
	eval page('memory-translate.svg', 1000, 640)
	set multiplot
	set logscale x
	set style fill solid 0.9 noborder
	set grid noytics xtics linecolor rgb '#dddddd'
	set ytics noenhanced
	set xrange [1:2000]
	set yrange [ways - 0.4:-0.6]
	set label 1 'Translation in the largest store: nanoseconds an address' at screen 0.5, 0.97 center font ',16'
	unset key
	do for [i = 0:3] {
		set lmargin at screen (i % 2 == 0 ? 0.19 : 0.69)
		set rmargin at screen (i % 2 == 0 ? 0.48 : 0.98)
		set tmargin at screen (i < 2 ? 0.87 : 0.41)
		set bmargin at screen (i < 2 ? 0.56 : 0.10)
		set title word('hot random chain ascending', i + 1) eq 'hot' ? 'the same 16 pages' : \
			i == 1 ? 'at random, known before' : i == 2 ? 'each from the answer before' : 'ascending'
		plot points . 'translate-' . word('hot random chain ascending', i + 1) \
			using 2:0:(1):2:($0 - 0.35):($0 + 0.35):(strcol(1) eq 'raw walk' ? 0x333333 : \
				strcol(1)[1:1] eq 'k' || strcol(1)[1:1] eq 't' ? 0x0072b2 : 0xd55e00):yticlabels(1) \
				with boxxyerror linecolor rgb variable, \
			'' using 3:0:($4 - $3):(0) with vectors nohead linewidth 2 linecolor rgb '#999999'
		unset label 1
	}
	unset multiplot
}

if (benchmark eq 'durable') {
	eval page('durability-writes.svg', 1100, 440)
	set multiplot
	set style fill solid 0.9 noborder
	set xlabel 'connections x requests ahead'
	set label 1 'Durable writes' at screen 0.44, 0.96 center font ',16'
	set yrange [0:*]
	set xrange [-0.6:3.6]
	unset key
	do for [i = 0:1] {
		eval panel(i, 2, 0.20)
		set title i == 0 ? 'answered when on the disk' : 'answered at once, on the disk later'
		if (i == 0) {
			set ylabel 'thousand operations a second' offset 1.5
		} else {
			unset ylabel
			unset label 1
			eval legend
		}
		file = points . word('writes-forced writes-later', i + 1)
		plot file every 3::0 using ($0 - 0.27):2:(0.25) with boxes linecolor rgb ORANGE title 'Redis, SET', \
			'' every 3::1 using 0:2:(0.25):xticlabels(1) with boxes linecolor rgb BLUE title 'kvmstored, frames', \
			'' every 3::2 using ($0 + 0.27):2:(0.25) with boxes linecolor rgb SKY title 'kvmstored, mappings', \
			for [k = 0:2] '' every 3::k using ($0 + 0.27 * (k - 1)):3:(0):($4 - $3) \
				with vectors nohead linewidth 2 linecolor rgb BLACK notitle
	}
	unset multiplot
}

if (benchmark eq 'replay') {
	stats points . 'replay-recording' using 2 nooutput
	eval page('traces-replay.svg', 900, 420)
	set logscale x
	set style fill solid 0.9 noborder
	set grid noytics xtics linecolor rgb '#dddddd'
	set ytics noenhanced
	set xlabel 'thousand operations a second'
	set title 'Replay'
	set xrange [1:10000]
	set yrange [STATS_records - 0.4:-0.6]
	plot points . 'replay-recording' \
			using 2:0:(1):2:($0 - 0.36):($0 - 0.02):yticlabels(1) with boxxyerror linecolor rgb BLUE title 'recording', \
		points . 'replay-mix' \
			using 2:0:(1):2:($0 + 0.02):($0 + 0.36) with boxxyerror linecolor rgb ORANGE title 'mix', \
		points . 'replay-recording' using 3:($0 - 0.19):($4 - $3):(0) with vectors nohead linewidth 2 linecolor rgb BLACK notitle, \
		points . 'replay-mix' using 3:($0 + 0.19):($4 - $3):(0) with vectors nohead linewidth 2 linecolor rgb BLACK notitle
}
set output
