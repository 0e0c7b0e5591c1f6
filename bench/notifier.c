/*
 * notifier SOCKET [options]
 *
 * What intercede is measured against: the least that a C program does to answer notifications. It takes listeners at
 * SOCKET in the OCI seccomp agent protocol (the JSON is read and ignored), one container after the other, until SIGTERM.
 *
 *   --mode continue   answers every call with SECCOMP_USER_NOTIF_FLAG_CONTINUE (the default)
 *   --mode mknod      makes 1:3 as a careful supervisor must: path, credentials, capability and user namespace of the
 *                     caller, the notification still valid, its root, directory, umask and ids; continues everything else
 *   --mode sched      likewise sched_setscheduler of SCHED_FIFO up to 49: parameter, capability and user namespace of the
 *                     caller, the task meant by the number, pinned, in the same user namespace; continues everything else
 *   --mode setxattr   likewise trusted.overlay.opaque = y: path, name and value, capability and user namespace of the caller,
 *                     as the caller to a handle that opens nothing, its owner of the container; continues everything else
 *   --mode sysinfo    answers sysinfo: opens the memory of the caller, asks whether the call still waits and whether the place
 *                     may be written, writes the machine's figures, as they were at the start; continues everything else
 *   --no-wake-up      without SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
 *   --threads N       (default 1) one at a time waits in receive, the others serve
 *
 * Prints "ready" when it listens.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MAX_THREADS = 64, GROUPS = 64, PASS = 1 };

static const char *socket_path;
static int serve_mknod, serve_sched, serve_setxattr, serve_sysinfo, no_wake_up, threads = 1;
static struct sysinfo figures;
static int listener = -1, home_root, own_descriptors;
static dev_t container_userns_dev;
static ino_t container_userns;
static unsigned first_id, id_count;
static pthread_mutex_t token = PTHREAD_MUTEX_INITIALIZER;

static void fail(const char *what) {
  fprintf(stderr, "notifier: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* ---- mknod as the caller ---- */

struct caller {
  char path[4096];
  unsigned umask, fsuid, fsgid, groups[GROUPS];
  int group_count, root, cwd;
  uint64_t effective;
};

static int read_path(pid_t tid, uint64_t from, char *path) {
  for (size_t got = 0; got < 4096;) {
    size_t size = 4096 - (from + got) % 4096;
    if (size > 4096 - got) size = 4096 - got;
    struct iovec here = {path + got, size}, there = {(void *)(from + got), size};
    ssize_t read = process_vm_readv(tid, &here, 1, &there, 1, 0);
    if (read <= 0) return -EFAULT;
    if (memchr(path + got, 0, read)) return 0;
    got += read;
  }
  return -ENAMETOOLONG;
}

static int read_status(int proc, struct caller *caller) {
  char text[4096];
  int fd = openat(proc, "status", O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  if (size <= 0) return -1;
  text[size] = 0;
  const char *umask = strstr(text, "\nUmask:"), *uid = strstr(text, "\nUid:"), *gid = strstr(text, "\nGid:"),
             *groups = strstr(text, "\nGroups:"), *caps = strstr(text, "\nCapEff:");
  if (!umask || !uid || !gid || !groups || !caps) return -1;
  caller->umask = strtoul(umask + 7, NULL, 8);
  sscanf(uid, "\nUid: %*u %*u %*u %u", &caller->fsuid);
  sscanf(gid, "\nGid: %*u %*u %*u %u", &caller->fsgid);
  caller->effective = strtoull(caps + 8, NULL, 16);
  char *next = (char *)groups + 8;
  for (caller->group_count = 0; caller->group_count < GROUPS;) {
    while (*next == ' ' || *next == '\t') next++;
    if (*next < '0' || *next > '9') break;
    caller->groups[caller->group_count++] = strtoul(next, &next, 10);
  }
  return 0;
}

static int same_userns(int proc) {
  struct stat found;
  return fstatat(proc, "ns/user", &found, 0) == 0 && found.st_ino == container_userns && found.st_dev == container_userns_dev;
}

static int look_at(pid_t tid, struct caller *caller) {
  char name[32];
  snprintf(name, sizeof name, "/proc/%d", tid);
  int proc = open(name, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (proc < 0) return -1;
  int usable = read_status(proc, caller) == 0 && same_userns(proc);
  if (usable) {
    caller->root = openat(proc, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    caller->cwd = openat(proc, "cwd", O_PATH | O_DIRECTORY | O_CLOEXEC);
  }
  close(proc);
  return usable && caller->root >= 0 && caller->cwd >= 0 ? 0 : -1;
}

/* By the raw calls, which change this thread only; it has its own root and umask, and no capability over files. */
static void become(const struct caller *caller) {
  if (fchdir(caller->root) || chroot(".")) abort();
  umask(caller->umask);
  if (syscall(SYS_setgroups, caller->group_count, caller->groups)) abort();
  syscall(SYS_setfsgid, caller->fsgid);
  syscall(SYS_setfsuid, caller->fsuid);
}

static void go_home(void) {
  syscall(SYS_setfsuid, 0);
  syscall(SYS_setfsgid, 0);
  if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setfsuid, -1) || syscall(SYS_setfsgid, -1)) abort();
  if (fchdir(home_root) || chroot(".")) abort();
}

static int open_handle(int from, const char *path, int flags) {
  struct open_how how = {.flags = O_PATH | O_CLOEXEC | flags, .resolve = RESOLVE_CACHED | RESOLVE_NO_MAGICLINKS};
  int handle = syscall(SYS_openat2, from, path, &how, sizeof how);
  if (handle >= 0 || errno != EAGAIN) return handle;
  how.resolve &= ~RESOLVE_CACHED; /* not in the caches, or somebody mounts something */
  return syscall(SYS_openat2, from, path, &how, sizeof how);
}

static int make_as(const struct caller *caller, unsigned mode, unsigned dev) {
  char *path = (char *)caller->path, *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  char parent[4096] = ".";
  if (slash) snprintf(parent, sizeof parent, "%.*s", (int)(name - path), path);
  int result = -1, error;
  if (!*name || !strcmp(name, ".") || !strcmp(name, "..")) return PASS;
  become(caller);
  int directory = open_handle(caller->cwd, parent, O_DIRECTORY);
  if (directory >= 0) result = mknodat(directory, name, mode, dev);
  error = errno;
  if (directory >= 0) close(directory);
  go_home();
  return result < 0 ? -error : 0;
}

/* @return 0, a negative errno, or PASS: the kernel decides */
static int do_mknod(const struct seccomp_notif *call) {
  int at = call->data.nr == __NR_mknodat;
  const __u64 *args = call->data.args + at;
  struct caller caller = {.root = -1, .cwd = -1};
  if ((args[1] & S_IFMT) != S_IFCHR || args[2] != makedev(1, 3) || (at && (int)call->data.args[0] != AT_FDCWD)) return PASS;
  int result = read_path(call->pid, args[0], caller.path);
  if (result == 0) {
    uint64_t id = call->id;
    result = look_at(call->pid, &caller) || !(caller.effective & 1ull << CAP_MKNOD) ? PASS : 0;
    if (result == 0 && ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id)) result = PASS;
    if (result == 0) result = make_as(&caller, args[1], args[2]);
  }
  if (caller.root >= 0) close(caller.root);
  if (caller.cwd >= 0) close(caller.cwd);
  return result;
}

/* ---- setxattr as the caller ---- */

static int is_mapped(unsigned id) { return id >= first_id && id - first_id < id_count; }

/* No call on attributes takes a handle, so it is named in our own /proc/self/fd. */
static int set_as(const struct caller *caller, int flags) {
  int result = -1, error;
  struct stat found;
  char name[16];
  become(caller);
  int inode = open_handle(caller->cwd, caller->path, 0);
  error = errno;
  if (inode >= 0 && fstat(inode, &found) == 0 && is_mapped(found.st_uid) && is_mapped(found.st_gid)) {
    snprintf(name, sizeof name, "%d", inode);
    if (fchdir(own_descriptors)) abort();
    result = setxattr(name, "trusted.overlay.opaque", "y", 1, flags);
    error = errno;
  } else if (inode >= 0) {
    error = EPERM;
  }
  if (inode >= 0) close(inode);
  go_home();
  return result < 0 ? -error : 0;
}

static int reads_as(pid_t tid, uint64_t from, const char *expected, size_t size) {
  char found[32];
  struct iovec here = {found, size}, there = {(void *)from, size};
  return process_vm_readv(tid, &here, 1, &there, 1, 0) == (ssize_t)size && memcmp(found, expected, size) == 0;
}

/* @return as do_mknod */
static int do_setxattr(const struct seccomp_notif *call) {
  static const char name[] = "trusted.overlay.opaque";
  const __u64 *args = call->data.args;
  struct caller caller = {.root = -1, .cwd = -1};
  uint64_t id = call->id;
  if (call->data.nr != __NR_setxattr || args[3] != 1 || !reads_as(call->pid, args[1], name, sizeof name) ||
      !reads_as(call->pid, args[2], "y", 1))
    return PASS;
  int result = read_path(call->pid, args[0], caller.path);
  if (result == 0) result = look_at(call->pid, &caller) || !(caller.effective & 1ull << CAP_SYS_ADMIN) ? PASS : 0;
  if (result == 0 && ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id)) result = PASS;
  if (result == 0) result = set_as(&caller, args[4]);
  if (caller.root >= 0) close(caller.root);
  if (caller.cwd >= 0) close(caller.cwd);
  return result;
}

/* ---- sched_setscheduler for a task of the container ---- */

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* linux/pidfd.h, which the C library's fcntl.h excludes */
#endif

static int open_proc(pid_t tid, const char *entry, int flags) {
  char name[64];
  snprintf(name, sizeof name, "/proc/%d/%s", tid, entry);
  return open(name, flags | O_CLOEXEC);
}

static int may_schedule(pid_t tid, struct caller *caller) {
  int proc = open_proc(tid, "", O_PATH | O_DIRECTORY);
  int may = proc >= 0 && read_status(proc, caller) == 0 && same_userns(proc) && (caller->effective & 1ull << CAP_SYS_NICE);
  if (proc >= 0) close(proc);
  return may;
}

/* The number here of what the caller means by its number. */
static pid_t translate(pid_t caller, int number) {
  if (number == 0) return caller;
  int namespace = open_proc(caller, "ns/pid", O_RDONLY);
  pid_t tid = namespace < 0 ? -1 : ioctl(namespace, NS_GET_PID_FROM_PIDNS, number);
  if (namespace >= 0) close(namespace);
  return tid;
}

static int in_container(pid_t tid) {
  int proc = open_proc(tid, "", O_PATH | O_DIRECTORY);
  int in = proc >= 0 && same_userns(proc);
  if (proc >= 0) close(proc);
  return in;
}

static int keeps_number(int pidfd) { return syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0 || errno != ESRCH; }

/* @return as do_mknod */
static int do_sched(const struct seccomp_notif *call) {
  struct caller caller;
  struct sched_param param;
  struct iovec here = {&param, sizeof param}, there = {(void *)call->data.args[2], sizeof param};
  uint64_t id = call->id;
  if (call->data.nr != __NR_sched_setscheduler || (int)call->data.args[1] != SCHED_FIFO) return PASS;
  if (process_vm_readv(call->pid, &here, 1, &there, 1, 0) != sizeof param || param.sched_priority > 49) return PASS;
  if (!may_schedule(call->pid, &caller)) return PASS;
  pid_t tid = translate(call->pid, call->data.args[0]);
  int pidfd = tid < 0 ? -1 : syscall(SYS_pidfd_open, tid, PIDFD_THREAD), result = PASS;
  if (pidfd < 0) return PASS;
  if (in_container(tid) && translate(call->pid, call->data.args[0]) == tid && keeps_number(pidfd) &&
      ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0) {
    result = syscall(SYS_sched_setscheduler, tid, SCHED_FIFO, &param) ? -errno : 0;
    if (!keeps_number(pidfd)) result = -ESRCH;
  }
  close(pidfd);
  return result;
}

/* ---- sysinfo ---- */

static void count_over_files(int yes) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct sets[2];
  if (syscall(SYS_capget, &header, sets)) fail("capget");
  if (yes) sets[0].effective |= 1u << CAP_DAC_OVERRIDE;
  else sets[0].effective &= ~(1u << CAP_DAC_OVERRIDE);
  if (syscall(SYS_capset, &header, sets)) fail("capset");
}

static int open_of(pid_t tid, const char *name, int flags) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", tid, name);
  return open(path, flags | O_CLOEXEC);
}

/* The memory is held before the call is seen to wait: a program that a thread beside the caller executes has other memory. */
static int do_sysinfo(const struct seccomp_notif *call) {
  uint64_t id = call->id, at = call->data.args[0];
  if (call->data.nr != __NR_sysinfo) return PASS;
  count_over_files(1);
  int mem = open_of(call->pid, "mem", O_WRONLY), maps = open_of(call->pid, "maps", O_RDONLY), result = PASS;
  count_over_files(0);
  if (mem >= 0 && maps >= 0 && !ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id)) {
    struct procmap_query query = {.size = sizeof query, .query_flags = PROCMAP_QUERY_VMA_WRITABLE, .query_addr = at};
    int fits = !ioctl(maps, PROCMAP_QUERY, &query) && query.vma_end - at >= sizeof figures;
    result = fits && pwrite(mem, &figures, sizeof figures, at) == sizeof figures ? 0 : -EFAULT;
  }
  close(mem);
  close(maps);
  return result;
}

/* ---- the loop ---- */

static void prepare_thread(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct sets[2];
  unsigned files = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH | 1u << CAP_FOWNER | 1u << CAP_FSETID;
  if (unshare(CLONE_FS)) fail("unshare");
  if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)) fail("Cannot set the secure bits");
  if (syscall(SYS_capget, &header, sets)) fail("capget");
  sets[0].effective &= ~files;
  if (syscall(SYS_capset, &header, sets)) fail("capset");
}

static int receive(struct seccomp_notif *call) {
  for (;;) {
    memset(call, 0, sizeof *call);
    pthread_mutex_lock(&token);
    int result = ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, call);
    pthread_mutex_unlock(&token);
    if (result == 0) return 0;
    if (errno == EINTR) continue;
    /* ENOENT: an interrupted call, or nobody is left under the filter, and then this repeats: ask which. */
    struct pollfd hung_up = {listener, 0, 0};
    if (poll(&hung_up, 1, 0) == 1) return -1;
  }
}

static void *serve(void *nothing) {
  struct seccomp_notif call;
  if (serve_mknod || serve_setxattr) prepare_thread();
  while (receive(&call) == 0) {
    struct seccomp_notif_resp answer = {.id = call.id};
    int result = serve_mknod      ? do_mknod(&call)
                 : serve_sched    ? do_sched(&call)
                 : serve_setxattr ? do_setxattr(&call)
                 : serve_sysinfo  ? do_sysinfo(&call)
                                  : PASS;
    if (result == PASS) answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    else answer.error = result;
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer); /* ENOENT: the caller is gone */
  }
  return nothing;
}

/* ---- listeners ---- */

static pid_t pid_in(const char *json) {
  const char *pid = strstr(json, "\"pid\":");
  return pid ? strtol(pid + 6, NULL, 10) : 0;
}

static int take_listener(int connection) {
  char json[1 << 16];
  size_t length = 0;
  int taken = -1;
  for (;;) {
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; } control;
    struct iovec data = {json + length, sizeof json - 1 - length};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t size = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
    if (size <= 0) break;
    length += size;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) memcpy(&taken, CMSG_DATA(header), sizeof taken);
  }
  json[length] = 0;
  char name[64];
  struct stat userns;
  snprintf(name, sizeof name, "/proc/%d/ns/user", pid_in(json));
  if (stat(name, &userns) == 0) container_userns = userns.st_ino, container_userns_dev = userns.st_dev;
  snprintf(name, sizeof name, "/proc/%d/uid_map", pid_in(json));
  FILE *map = fopen(name, "re");
  if (map && fscanf(map, "%*u %u %u", &first_id, &id_count) != 2) id_count = 0;
  if (map) fclose(map);
  close(connection);
  return taken;
}

static void serve_container(void) {
  pthread_t started[MAX_THREADS];
  unsigned long flags = no_wake_up ? 0 : SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;
  if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags)) fail("Cannot set the wake-up flag");
  for (int t = 0; t < threads; t++) {
    if (pthread_create(&started[t], NULL, serve, NULL)) fail("pthread_create");
  }
  for (int t = 0; t < threads; t++) pthread_join(started[t], NULL);
  close(listener);
}

static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    fail(path);
  }
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 16)) fail(path);
  return fd;
}

static _Noreturn void usage(void) {
  fputs("usage: notifier SOCKET [--mode continue|mknod|sched|setxattr|sysinfo] [--no-wake-up] [--threads N]\n", stderr);
  exit(1);
}

static void parse(int argc, char **argv) {
  static const struct option known[] = {{"mode", 1, 0, 'm'}, {"no-wake-up", 0, &no_wake_up, 1}, {"threads", 1, 0, 't'}, {0}};
  for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
    if (option == 'm') {
      serve_mknod = !strcmp(optarg, "mknod");
      serve_sched = !strcmp(optarg, "sched");
      serve_setxattr = !strcmp(optarg, "setxattr");
      serve_sysinfo = !strcmp(optarg, "sysinfo");
      if (!serve_mknod && !serve_sched && !serve_setxattr && !serve_sysinfo && strcmp(optarg, "continue")) usage();
    } else if (option == 't') {
      threads = strtol(optarg, NULL, 10);
    } else if (option) {
      usage();
    }
  }
  if (optind != argc - 1 || threads < 1 || threads > MAX_THREADS) usage();
  socket_path = argv[optind];
}

int main(int argc, char **argv) {
  parse(argc, argv);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (sysinfo(&figures)) fail("sysinfo");
  home_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  own_descriptors = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
  int listening = listen_at(socket_path);
  puts("ready");
  fflush(stdout);
  for (;;) {
    int connection = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0) continue;
    listener = take_listener(connection);
    if (listener >= 0) serve_container();
  }
}
