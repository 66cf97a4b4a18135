/* What Debian's libpython takes of a glibc that is newer than 2.28, where it is optional: as a kernel without it says. */
#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

int close_range(unsigned int first, unsigned int last, int flags) {
  (void)first, (void)last, (void)flags;
  errno = ENOSYS;
  return -1;
}

/* CPython waits on no other clock than the monotonic one, and here for none but a lock's timeout. */
int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
  struct timespec now, real;
  if (clock == CLOCK_REALTIME)
    return sem_timedwait(semaphore, until);
  clock_gettime(clock, &now);
  clock_gettime(CLOCK_REALTIME, &real);
  real.tv_sec += until->tv_sec - now.tv_sec;
  real.tv_nsec += until->tv_nsec - now.tv_nsec;
  if (real.tv_nsec < 0) {
    real.tv_nsec += 1000000000L;
    real.tv_sec--;
  } else if (real.tv_nsec >= 1000000000L) {
    real.tv_nsec -= 1000000000L;
    real.tv_sec++;
  }
  return sem_timedwait(semaphore, &real);
}

void arc4random_buf(void *buffer, size_t length) {
  unsigned char *at = buffer;
  while (length > 0) {
    ssize_t got = getrandom(at, length, 0);
    if (got < 0 && errno != EINTR)
      abort(); /* expat's salt: no number is better than a known one */
    if (got > 0)
      at += got, length -= (size_t)got;
  }
}
