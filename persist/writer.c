#include "persist/writer.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include "persist/db.h"
#include "persist/picture.h"

#define RETRY_MS 250u
#define PATIENCE_MS 2000u         /* of a job that cannot begin because writing fails */
#define PORTION_BYTES (64u << 10) /* flushed at once, so that the writer gets work early */
#define GROUP_BYTES (1u << 20)    /* a group of one store grows no further */
#define HASTE_BYTES (1u << 20)    /* with so much waiting, the interval is not waited for */

/* Steps of one store that become one group, or part of one. */
struct portion {
	TAILQ_ENTRY(portion) link;
	char *store;
	uint64_t first, last, restored, began, digest;
	struct bytes records;
};

TAILQ_HEAD(portions, portion);

enum task { SAVE, DROP_STORE, DROP_SNAPSHOT };

/* Something else for the thread to do. */
struct job {
	STAILQ_ENTRY(job) link;
	enum task task;
	char *store;
	uint64_t after;              /* not before this flush is written */
	struct timespec queued;
	struct persist_image *image; /* to save */
	bool hold;                   /* the snapshot stays until it is dropped */
	uint64_t snapshot;           /* to drop */
	struct persist_writer *writer;
	struct persist_picture *picture; /* where the image will come from */
	pthread_t collector;             /* waits for it, if "collected" */
	bool collected;
	persist_saved *done;
	void *arg;
	enum persist_status status;
	struct persist_snapshot saved;
	char why[PERSIST_WHY];
};

STAILQ_HEAD(jobs, job);

struct persist_stream {
	TAILQ_ENTRY(persist_stream) link;
	struct persist_writer *writer;
	char *store;
	struct kvms *model;
	struct portion *open; /* being filled by the loop; NULL = nothing yet */
	uint64_t step;        /* last added */
	uint64_t time;        /* of it, microseconds since 1970 */
	uint64_t bytes;       /* of all that was added */
	bool together;        /* what is added must not be cut in two */
};

struct persist_writer {
	struct persist *db; /* the thread's connection */
	enum persist_durability durability;
	unsigned interval;
	pthread_t thread;
	int event;

	/* the loop's */
	TAILQ_HEAD(, persist_stream) streams;
	uint64_t flushed; /* number of the newest flush */
	bool early;       /* a stream was full before the next flush */

	pthread_mutex_t lock; /* for all that follows */
	pthread_cond_t work;
	pthread_cond_t idle; /* signalled when a job has ended */
	struct portions waiting;
	size_t waiting_bytes;
	uint64_t complete;      /* number of the last flush that is there as a whole, or written */
	struct timespec oldest; /* when the first came */
	struct jobs jobs, ended;
	unsigned collecting; /* pictures that are under way */
	bool working;        /* a job is */
	uint64_t written;
	bool hurry; /* do not wait for the interval */
	bool stop;
	struct timespec give_up; /* with stop: when */
	bool failing;
	char why[PERSIST_WHY];
};

/* ---- Time ----------------------------------------------------------------------------- */

static uint64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static struct timespec
after(struct timespec t, unsigned ms)
{
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

static struct timespec
monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now;
}

static bool
is_past(struct timespec t)
{
	struct timespec now = monotonic();

	return now.tv_sec > t.tv_sec || (now.tv_sec == t.tv_sec && now.tv_nsec >= t.tv_nsec);
}

/* ---- Portions ---------------------------------------------------------------------------- */

static void
portion_free(struct portion *p)
{
	if (p == NULL)
		return;
	free(p->store);
	persist_bytes_free(&p->records);
	free(p);
}

static struct portion *
portion_new(const struct persist_stream *stream)
{
	struct portion *p = calloc(1, sizeof *p);

	if (p == NULL || (p->store = strdup(stream->store)) == NULL) {
		free(p);
		return NULL;
	}
	p->first = stream->step + 1;
	p->restored = PERSIST_NO_STEP;
	p->began = stream->time;
	return p;
}

static void
tell(struct persist_writer *w)
{
	const uint64_t one = 1;

	while (write(w->event, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* Put "p" behind the others, or into the last one if that is of the same store and small. */
static void
portion_queue(struct portions *list, struct portion *p)
{
	struct portion *last = TAILQ_LAST(list, portions);

	if (last != NULL && last->restored == PERSIST_NO_STEP && p->restored == PERSIST_NO_STEP &&
	    strcmp(last->store, p->store) == 0 && last->last + 1 == p->first &&
	    last->records.size + p->records.size <= GROUP_BYTES) {
		persist_bytes_add(&last->records, p->records.at, p->records.size);
		if (!last->records.failed) {
			last->last = p->last;
			last->digest = p->digest;
			portion_free(p);
			return;
		}
		last->records.failed = false; /* as it was */
	}
	TAILQ_INSERT_TAIL(list, p, link);
}

/* ---- The thread --------------------------------------------------------------------------- */

/* Write all of "list" in one transaction. */
static enum persist_status
portions_write(struct persist_writer *w, const struct portions *list, char *why, size_t size)
{
	struct persist_group *groups = NULL;
	struct portion *p;
	size_t count = 0, i = 0;

	TAILQ_FOREACH(p, list, link)
		count++;
	groups = calloc(count, sizeof *groups);
	if (groups == NULL) {
		snprintf(why, size, "no memory left to write the journal");
		return PERSIST_FAILED;
	}
	TAILQ_FOREACH(p, list, link)
		groups[i++] = (struct persist_group){ .store = p->store,
						      .first = p->first,
						      .last = p->last,
						      .restored = p->restored,
						      .began = p->began,
						      .digest = p->digest,
						      .records = p->records.at,
						      .size = p->records.size };
	enum persist_status status = persist_journal_write(w->db, groups, count, why, size);
	free(groups);
	return status;
}

/* Wait for the condition, until "deadline" unless that is NULL.  Needs the lock. */
static void
wait_until(struct persist_writer *w, const struct timespec *deadline)
{
	if (deadline == NULL)
		pthread_cond_wait(&w->work, &w->lock);
	else
		pthread_cond_timedwait(&w->work, &w->lock, deadline);
}

/* There is something to write, and it is time to.  Needs the lock. */
static bool
is_due(const struct persist_writer *w)
{
	if (TAILQ_EMPTY(&w->waiting))
		return w->written < w->complete;
	return w->durability == PERSIST_DURABILITY_FULL || w->hurry || w->waiting_bytes >= HASTE_BYTES ||
	       is_past(after(w->oldest, w->interval));
}

/* Sleep until that is so.  Needs the lock. */
static void
wait_for_work(struct persist_writer *w)
{
	while (!w->stop && STAILQ_EMPTY(&w->jobs) && !is_due(w)) {
		struct timespec deadline = after(w->oldest, w->interval);

		wait_until(w, TAILQ_EMPTY(&w->waiting) ? NULL : &deadline);
	}
}

/* Note how writing went.  Needs the lock. */
static void
note(struct persist_writer *w, enum persist_status status, const char *why)
{
	if (status == PERSIST_OK) {
		w->failing = false;
		return;
	}
	w->failing = true;
	snprintf(w->why, sizeof w->why, "%s", why);
}

/* Write the portions that wait; keep them if that fails.  Needs the lock, lets go of it. */
static bool
write_waiting(struct persist_writer *w)
{
	struct portions taken = TAILQ_HEAD_INITIALIZER(taken);
	char why[PERSIST_WHY] = "";
	struct portion *p;
	uint64_t number = w->complete;
	size_t bytes = w->waiting_bytes;

	if (TAILQ_EMPTY(&w->waiting)) {
		w->hurry = false;
		if (w->written < number)
			tell(w);
		w->written = number;
		return true;
	}
	TAILQ_CONCAT(&taken, &w->waiting, link);
	w->hurry = false;
	pthread_mutex_unlock(&w->lock);
	enum persist_status status = portions_write(w, &taken, why, sizeof why);
	pthread_mutex_lock(&w->lock);
	note(w, status, why);
	if (status == PERSIST_OK) {
		w->waiting_bytes -= bytes;
		w->written = number;
		while ((p = TAILQ_FIRST(&taken)) != NULL) {
			TAILQ_REMOVE(&taken, p, link);
			portion_free(p);
		}
		w->oldest = monotonic();
	} else {
		TAILQ_CONCAT(&taken, &w->waiting, link);
		TAILQ_CONCAT(&w->waiting, &taken, link);
	}
	tell(w);
	return status == PERSIST_OK;
}

/* Needs the lock. */
static void
job_ended(struct persist_writer *w, struct job *job)
{
	STAILQ_INSERT_TAIL(&w->ended, job, link);
	pthread_cond_broadcast(&w->idle);
	tell(w);
}

static void
job_free(struct job *job)
{
	if (job->collected)
		pthread_join(job->collector, NULL);
	persist_image_free(&job->image);
	free(job->store);
	free(job);
}

static enum persist_status
job_run(struct persist *db, struct job *job)
{
	enum persist_status status;

	switch (job->task) {
	case DROP_STORE:
		return persist_drop(db, job->store, job->why, sizeof job->why);
	case DROP_SNAPSHOT:
		return persist_drop_snapshot(db, job->store, job->snapshot, job->why, sizeof job->why);
	case SAVE:
		break;
	}
	status = persist_write(db, job->store, job->image, &job->saved, job->why, sizeof job->why);
	/* whoever asked for it has no answer yet: in between it may be lost like any other */
	if (status == PERSIST_OK && job->hold)
		status = persist_hold(db, job->saved.id, job->why, sizeof job->why);
	return status;
}

/* Do the first job.  Needs the lock, lets go of it. */
static void
job_do(struct persist_writer *w)
{
	struct job *job = STAILQ_FIRST(&w->jobs);

	STAILQ_REMOVE_HEAD(&w->jobs, link);
	w->working = true;
	pthread_mutex_unlock(&w->lock);
	job->status = job_run(w->db, job);
	persist_image_free(&job->image);
	pthread_mutex_lock(&w->lock);
	w->working = false;
	job_ended(w, job);
}

/* The journal cannot be written: jobs that have waited for it too long end.  Needs the lock. */
static void
jobs_give_up(struct persist_writer *w)
{
	struct job *job, *next;

	for (job = STAILQ_FIRST(&w->jobs); job != NULL; job = next) {
		next = STAILQ_NEXT(job, link);
		if (!is_past(after(job->queued, PATIENCE_MS)))
			continue;
		STAILQ_REMOVE(&w->jobs, job, job, link);
		job->status = PERSIST_FAILED;
		snprintf(job->why, sizeof job->why, "%s", w->why);
		job_ended(w, job);
	}
}

/* In the midst of something long: would steps wait for it? */
static bool
on_wanted(void *arg)
{
	struct persist_writer *w = arg;

	pthread_mutex_lock(&w->lock);
	bool due = is_due(w);
	pthread_mutex_unlock(&w->lock);
	return due;
}

static void
on_pause(void *arg)
{
	struct persist_writer *w = arg;

	pthread_mutex_lock(&w->lock);
	if (!TAILQ_EMPTY(&w->waiting) || w->written < w->complete)
		(void)write_waiting(w); /* if it fails the next round says so again */
	pthread_mutex_unlock(&w->lock);
}

static void *
run(void *arg)
{
	struct persist_writer *w = arg;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		wait_for_work(w);
		if (!write_waiting(w)) {
			struct timespec deadline = after(monotonic(), RETRY_MS);

			jobs_give_up(w);
			if (w->stop && is_past(w->give_up))
				break;
			while (!is_past(deadline))
				wait_until(w, &deadline);
			continue;
		}
		/* a job may have come with steps of its own while others were written */
		if (!STAILQ_EMPTY(&w->jobs) && STAILQ_FIRST(&w->jobs)->after <= w->written)
			job_do(w);
		else if (STAILQ_EMPTY(&w->jobs) && w->stop && TAILQ_EMPTY(&w->waiting))
			break;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* ---- Beginning and end ---------------------------------------------------------------------- */

static bool
locks_init(struct persist_writer *w)
{
	pthread_condattr_t attr;

	if (pthread_condattr_init(&attr) != 0)
		return false;
	bool done = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
		    pthread_mutex_init(&w->lock, NULL) == 0 && pthread_cond_init(&w->work, &attr) == 0 &&
		    pthread_cond_init(&w->idle, &attr) == 0;
	pthread_condattr_destroy(&attr);
	return done;
}

/* Start a thread with all signals blocked: they are the loop's. */
static int
thread_start(pthread_t *thread, void *(*function)(void *), void *arg)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int error = pthread_create(thread, NULL, function, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return error;
}

static void
writer_free(struct persist_writer *w)
{
	struct portion *p;
	struct job *job;

	persist_close(&w->db);
	if (w->event >= 0)
		close(w->event);
	while ((p = TAILQ_FIRST(&w->waiting)) != NULL) {
		TAILQ_REMOVE(&w->waiting, p, link);
		portion_free(p);
	}
	STAILQ_CONCAT(&w->ended, &w->jobs);
	while ((job = STAILQ_FIRST(&w->ended)) != NULL) {
		STAILQ_REMOVE_HEAD(&w->ended, link);
		job_free(job);
	}
	free(w);
}

enum persist_status
persist_writer_start(struct persist *db, enum persist_durability durability, unsigned interval,
		     struct persist_writer **writer, char *why, size_t size)
{
	const struct report r = { why, size };
	struct persist_writer *w = calloc(1, sizeof *w);

	*writer = NULL;
	if (w == NULL)
		return persist_report(&r, PERSIST_FAILED, "no memory left");
	w->durability = durability;
	w->interval = interval;
	TAILQ_INIT(&w->streams);
	TAILQ_INIT(&w->waiting);
	STAILQ_INIT(&w->jobs);
	STAILQ_INIT(&w->ended);
	w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	enum persist_status status = w->event < 0 || !locks_init(w)
					 ? persist_report(&r, PERSIST_FAILED, "cannot prepare the writer: %s",
							  strerror(errno))
					 : persist_db_again(db, &w->db, &r);
	if (status == PERSIST_OK) {
		w->db->wanted = on_wanted;
		w->db->pause = on_pause;
		w->db->pause_arg = w;
		int error = thread_start(&w->thread, run, w);

		if (error != 0)
			status = persist_report(&r, PERSIST_FAILED, "cannot start the writer: %s", strerror(error));
	}
	if (status != PERSIST_OK) {
		writer_free(w);
		return status;
	}
	*writer = w;
	return PERSIST_OK;
}

bool
persist_writer_stop(struct persist_writer **writer, unsigned patience, char *why, size_t size)
{
	struct persist_writer *w = *writer;
	bool all;

	if (w == NULL)
		return true;
	*writer = NULL;
	persist_writer_flush(w);
	pthread_mutex_lock(&w->lock);
	while (w->collecting > 0)
		pthread_cond_wait(&w->idle, &w->lock);
	w->stop = true;
	w->give_up = after(monotonic(), patience);
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	all = TAILQ_EMPTY(&w->waiting) && STAILQ_EMPTY(&w->jobs);
	if (!all)
		snprintf(why, size, "%s", w->why);
	persist_writer_finished(w);
	while (!TAILQ_EMPTY(&w->streams)) {
		struct persist_stream *stream = TAILQ_FIRST(&w->streams);

		persist_stream_free(&stream);
	}
	writer_free(w);
	return all;
}

int
persist_writer_fd(const struct persist_writer *w)
{
	return w->event;
}

void
persist_writer_heard(struct persist_writer *w)
{
	uint64_t count;

	while (read(w->event, &count, sizeof count) < 0 && errno == EINTR)
		;
}

uint64_t
persist_writer_written(struct persist_writer *w)
{
	pthread_mutex_lock(&w->lock);
	uint64_t written = w->written;
	pthread_mutex_unlock(&w->lock);
	return written;
}

size_t
persist_writer_waiting(struct persist_writer *w)
{
	pthread_mutex_lock(&w->lock);
	size_t bytes = w->waiting_bytes;
	pthread_mutex_unlock(&w->lock);
	return bytes;
}

bool
persist_writer_failing(struct persist_writer *w, char *why, size_t size)
{
	pthread_mutex_lock(&w->lock);
	bool failing = w->failing;
	if (failing)
		snprintf(why, size, "%s", w->why);
	pthread_mutex_unlock(&w->lock);
	return failing;
}

/* ---- Streams ------------------------------------------------------------------------------------ */

struct persist_stream *
persist_stream_new(struct persist_writer *w, const char *store, struct kvms *model)
{
	struct persist_stream *stream = calloc(1, sizeof *stream);

	if (stream == NULL || (stream->store = strdup(store)) == NULL) {
		free(stream);
		return NULL;
	}
	stream->writer = w;
	stream->model = model;
	stream->step = kvms_steps(model);
	stream->time = now_us();
	TAILQ_INSERT_TAIL(&w->streams, stream, link);
	return stream;
}

/* Hand over what the stream holds. */
static void
stream_flush(struct persist_stream *stream)
{
	struct persist_writer *w = stream->writer;
	struct portion *p = stream->open;

	if (p == NULL)
		return;
	stream->open = NULL;
	p->last = stream->step;
	p->digest = kvms_digest(stream->model);
	pthread_mutex_lock(&w->lock);
	if (TAILQ_EMPTY(&w->waiting))
		w->oldest = monotonic();
	w->waiting_bytes += p->records.size;
	portion_queue(&w->waiting, p);
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
	w->early = true;
}

void
persist_stream_free(struct persist_stream **stream)
{
	struct persist_stream *old = *stream;

	if (old == NULL)
		return;
	*stream = NULL;
	stream_flush(old);
	TAILQ_REMOVE(&old->writer->streams, old, link);
	free(old->store);
	free(old);
}

bool
persist_stream_add(struct persist_stream *stream, uint64_t connection, const struct kvms_op *op,
		   const struct kvms_outcome *out)
{
	uint64_t now = now_us(), delay = now > stream->time ? now - stream->time : 0;

	if (stream->open == NULL)
		stream->open = portion_new(stream);
	if (stream->open == NULL)
		return false;
	size_t before = stream->open->records.size;
	persist_record_encode(&stream->open->records, connection, delay, op, out);
	if (stream->open->records.failed)
		return false;
	stream->bytes += stream->open->records.size - before;
	stream->step++;
	stream->time += delay;
	if (stream->open->records.size >= PORTION_BYTES && !stream->together)
		stream_flush(stream);
	return true;
}

void
persist_stream_together(struct persist_stream *stream, bool together)
{
	stream->together = together;
}

bool
persist_stream_restored(struct persist_stream *stream, struct kvms *model, uint64_t target)
{
	stream_flush(stream); /* with the digest of the old model */
	struct portion *p = portion_new(stream);

	if (p == NULL)
		return false;
	stream->model = model;
	stream->open = p;
	stream->step++;
	p->restored = target;
	assert(kvms_steps(model) == stream->step);
	stream_flush(stream);
	return true;
}

uint64_t
persist_stream_last(const struct persist_stream *stream)
{
	return stream->step;
}

uint64_t
persist_stream_bytes(const struct persist_stream *stream)
{
	return stream->bytes;
}

uint64_t
persist_writer_next(const struct persist_writer *w)
{
	return w->flushed + 1;
}

void
persist_writer_flush(struct persist_writer *w)
{
	struct persist_stream *stream;

	TAILQ_FOREACH(stream, &w->streams, link)
		stream_flush(stream);
	if (!w->early)
		return;
	w->early = false;
	w->flushed++;
	pthread_mutex_lock(&w->lock);
	w->complete = w->flushed;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
}

void
persist_writer_hurry(struct persist_writer *w)
{
	persist_writer_flush(w);
	pthread_mutex_lock(&w->lock);
	w->hurry = true;
	pthread_cond_signal(&w->work);
	pthread_mutex_unlock(&w->lock);
}

/* ---- Snapshots ---------------------------------------------------------------------------------- */

static struct job *
job_new(struct persist_writer *w, enum task task, const char *store, persist_saved *done, void *arg)
{
	struct job *job = calloc(1, sizeof *job);

	if (job == NULL || (job->store = strdup(store)) == NULL) {
		free(job);
		return NULL;
	}
	job->writer = w;
	job->task = task;
	job->done = done;
	job->arg = arg;
	return job;
}

/* Hand a job over.  Needs the lock. */
static void
job_give(struct persist_writer *w, struct job *job)
{
	job->queued = monotonic();
	STAILQ_INSERT_TAIL(&w->jobs, job, link);
	pthread_cond_signal(&w->work);
}

/* Give the thread a job, NULL = none, behind all that was added so far. */
static struct job *
job_queue(struct persist_writer *w, struct job *job)
{
	if (job == NULL)
		return NULL;
	persist_writer_flush(w);
	job->after = w->flushed;
	pthread_mutex_lock(&w->lock);
	job_give(w, job);
	pthread_mutex_unlock(&w->lock);
	return job;
}

/* The collector: wait for the picture, then the job is the writer's. */
static void *
collect(void *arg)
{
	struct job *job = arg;
	struct persist_writer *w = job->writer;

	job->status = persist_picture_end(&job->picture, &job->image, job->why, sizeof job->why);
	pthread_mutex_lock(&w->lock);
	w->collecting--;
	if (job->status == PERSIST_OK) {
		job_give(w, job);
		pthread_cond_broadcast(&w->idle);
	} else {
		job_ended(w, job);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* Have a child take the picture; false: it cannot. */
static bool
picture_begin(struct persist_writer *w, struct job *job, struct kvms *s)
{
	if (persist_picture_begin(s, &job->picture, job->why, sizeof job->why) != PERSIST_OK)
		return false;
	pthread_mutex_lock(&w->lock);
	w->collecting++;
	pthread_mutex_unlock(&w->lock);
	job->collected = true;
	if (thread_start(&job->collector, collect, job) == 0)
		return true;
	job->collected = false;
	collect(job); /* the loop waits, this once */
	return true;
}

static bool
save(struct persist_writer *w, const char *store, struct kvms *s, bool hold, persist_saved *done, void *arg)
{
	struct job *job = job_new(w, SAVE, store, done, arg);

	if (job == NULL)
		return false;
	job->hold = hold;
	persist_writer_flush(w);
	job->after = w->flushed;
	if (picture_begin(w, job, s))
		return true;
	if (persist_capture(s, &job->image, job->why, sizeof job->why) == PERSIST_OK) {
		(void)job_queue(w, job);
		return true;
	}
	job_free(job);
	return false;
}

bool
persist_writer_save(struct persist_writer *w, const char *store, struct kvms *s, persist_saved *done, void *arg)
{
	return save(w, store, s, false, done, arg);
}

bool
persist_writer_hold(struct persist_writer *w, const char *store, struct kvms *s, persist_saved *done, void *arg)
{
	return save(w, store, s, true, done, arg);
}

bool
persist_writer_save_image(struct persist_writer *w, const char *store, struct persist_image **image,
			  persist_saved *done, void *arg)
{
	struct job *job = job_new(w, SAVE, store, done, arg);

	if (job == NULL)
		return false;
	job->image = *image;
	*image = NULL;
	(void)job_queue(w, job);
	return true;
}

bool
persist_writer_forget(struct persist_writer *w, const char *store, persist_saved *done, void *arg)
{
	return job_queue(w, job_new(w, DROP_STORE, store, done, arg)) != NULL;
}

bool
persist_writer_drop_snapshot(struct persist_writer *w, const char *store, uint64_t id, persist_saved *done, void *arg)
{
	struct job *job = job_new(w, DROP_SNAPSHOT, store, done, arg);

	if (job != NULL)
		job->snapshot = id;
	return job_queue(w, job) != NULL;
}

void
persist_writer_quiet(struct persist_writer *w)
{
	persist_writer_flush(w);
	pthread_mutex_lock(&w->lock);
	while (w->collecting > 0 || w->working || !STAILQ_EMPTY(&w->jobs))
		pthread_cond_wait(&w->idle, &w->lock);
	pthread_mutex_unlock(&w->lock);
	persist_writer_finished(w);
}

enum persist_status
persist_writer_reach(struct persist_writer *w, uint64_t number, char *why, size_t size)
{
	enum persist_status status = PERSIST_OK;

	while (persist_writer_written(w) < number && status == PERSIST_OK) {
		if (persist_writer_failing(w, why, size))
			status = PERSIST_FAILED;
		usleep(500);
	}
	return status;
}

void
persist_writer_finished(struct persist_writer *w)
{
	struct jobs ended = STAILQ_HEAD_INITIALIZER(ended);
	struct job *job;

	pthread_mutex_lock(&w->lock);
	STAILQ_CONCAT(&ended, &w->ended);
	pthread_mutex_unlock(&w->lock);
	while ((job = STAILQ_FIRST(&ended)) != NULL) {
		STAILQ_REMOVE_HEAD(&ended, link);
		if (job->done != NULL)
			job->done(job->arg, job->status, &job->saved, job->why);
		job_free(job);
	}
}

/* Wait for a job. */
static enum persist_status
job_wait(struct persist_writer *w, struct job *job, char *why, size_t size)
{
	bool ended = false;

	if (job == NULL) {
		snprintf(why, size, "no memory left");
		return PERSIST_FAILED;
	}
	pthread_mutex_lock(&w->lock);
	while (!ended) {
		struct job *other;

		STAILQ_FOREACH(other, &w->ended, link)
			ended |= other == job;
		if (ended)
			STAILQ_REMOVE(&w->ended, job, job, link);
		else
			pthread_cond_wait(&w->idle, &w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	enum persist_status status = job->status;
	snprintf(why, size, "%s", job->why);
	job_free(job);
	return status;
}

/* Wait for the pictures that are under way: what they become is queued before what comes now. */
static void
collected(struct persist_writer *w)
{
	pthread_mutex_lock(&w->lock);
	while (w->collecting > 0)
		pthread_cond_wait(&w->idle, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

enum persist_status
persist_writer_save_now(struct persist_writer *w, const char *store, struct kvms *s, char *why, size_t size)
{
	struct job *job = job_new(w, SAVE, store, NULL, NULL);

	collected(w);
	if (job != NULL && persist_capture(s, &job->image, why, size) != PERSIST_OK) {
		job_free(job);
		return PERSIST_FAILED;
	}
	return job_wait(w, job_queue(w, job), why, size);
}

enum persist_status
persist_writer_drop(struct persist_writer *w, const char *store, char *why, size_t size)
{
	collected(w); /* a picture under way would come back as a snapshot of a store that is gone */
	return job_wait(w, job_queue(w, job_new(w, DROP_STORE, store, NULL, NULL)), why, size);
}
