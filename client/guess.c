#include "client/kvmctl.h"

#include <string.h>

/* Longer words are not guessed at. */
#define LENGTH_MAX 48u

static char
folded(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c - 'A' + 'a');
	return c == '_' || c == ' ' ? '-' : c;
}

static unsigned
least(unsigned a, unsigned b, unsigned c)
{
	unsigned least_of_two = a < b ? a : b;

	return least_of_two < c ? least_of_two : c;
}

/* Insertions, deletions, replacements and swaps of neighbours that turn a into b. */
static unsigned
distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	unsigned d[LENGTH_MAX + 1][LENGTH_MAX + 1];

	for (unsigned i = 0; i <= a_length; i++)
		d[i][0] = i;
	for (unsigned j = 0; j <= b_length; j++)
		d[0][j] = j;
	/* d[i][j] is the distance of the first i characters of a and the first j of b. */
	for (size_t i = 1; i <= a_length; i++) {
		for (size_t j = 1; j <= b_length; j++) {
			bool same = folded(a[i - 1]) == folded(b[j - 1]);

			d[i][j] = least(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + !same);
			if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) &&
			    folded(a[i - 2]) == folded(b[j - 1]) && d[i - 2][j - 2] + 1 < d[i][j])
				d[i][j] = d[i - 2][j - 2] + 1;
		}
	}
	return d[a_length][b_length];
}

void
kvmctl_guess_try(struct kvmctl_guess *guess, const char *candidate)
{
	size_t length = strlen(guess->word), candidate_length = strlen(candidate);
	unsigned d;

	if (length == 0 || length > LENGTH_MAX || candidate_length > LENGTH_MAX)
		return;
	d = distance(guess->word, length, candidate, candidate_length);
	if (d > 1 + length / 4) {
		/* Not a slip of the fingers; the beginning of the name, perhaps. */
		if (length < 3 || candidate_length < length || distance(guess->word, length, candidate, length) != 0)
			return;
		d = 1 + (unsigned)(candidate_length - length);
	}
	if (guess->best == NULL || d < guess->distance) {
		guess->best = candidate;
		guess->distance = d;
	}
}
