import { constants, openSync } from 'node:fs'
import { O_CLOEXEC } from '../abi/fcntl.ts'
import { TCSADRAIN, TIOCGPTPEER, TIOCSPTLCK, TIOCSWINSZ } from '../abi/ioctl.ts'
import { Fd, guarded, type Handle } from './fd.ts'
import { check, libc } from './libc.ts'

/** Larger than `struct termios` of any C library. */
const TERMIOS_SIZE = 128
/** Of `struct termios` of glibc and musl: the number of flag words, and of control characters. */
const FLAGS = 4
const NCCS = 32

const libcIoctlBytes = libc.func('int ioctl(int fd, unsigned long request, uint8_t *argument)')
const libcTcgetattr = libc.func('int tcgetattr(int fd, uint8_t *termios)')
const libcTcsetattr = libc.func('int tcsetattr(int fd, int when, uint8_t *termios)')
const libcCfmakeraw = libc.func('void cfmakeraw(uint8_t *termios)')
const libcIoctlFlags = libc.func('int ioctl(int fd, unsigned long request, long argument)')

/**
 * Opens a pair of terminals. The slave is opened through the master, so it does not matter which devpts we see.
 *
 * @throws {SyscallError} ENOTTY before Linux 4.13
 * @see ioctl_tty(2) TIOCGPTPEER
 */
export function openPty(): { readonly master: Fd; readonly slave: Fd } {
  const master = new Fd(openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY))
  return guarded(master, () => {
    check('TIOCSPTLCK', libcIoctlBytes(master.raw, TIOCSPTLCK, new Uint8Array(4)))
    const flags = constants.O_RDWR | constants.O_NOCTTY | O_CLOEXEC
    return { master, slave: new Fd(check('TIOCGPTPEER', libcIoctlFlags(master.raw, TIOCGPTPEER, flags))) }
  })
}

/** Sets a terminal's size; its foreground processes get SIGWINCH. `struct winsize` is u16 rows, columns, x, y. */
export function setWindowSize(terminal: Handle, columns: number, rows: number): void {
  check(
    'TIOCSWINSZ',
    libcIoctlBytes(terminal.raw, TIOCSWINSZ, new Uint8Array(Uint16Array.of(rows, columns, 0, 0).buffer)),
  )
}

/** Writes settings as `stty -g` does: the words of flags and, after the byte `c_line`, the control characters. */
function inWords(termios: Uint8Array): string {
  const flags = new Uint32Array(termios.buffer.slice(0, FLAGS * 4))
  const characters = termios.subarray(FLAGS * 4 + 1, FLAGS * 4 + 1 + NCCS)
  return [...flags, ...characters].map((number) => number.toString(16)).join(':')
}

/**
 * Makes the user's terminal raw until the result is disposed. Node's `setRawMode` keeps ONLCR, which spoils the
 * output of full screen programs.
 *
 * @param announce is told before with which words stty(1) sets the former settings, and which are the raw ones
 * @throws {SyscallError} ENOTTY
 * @see termios(3)
 */
export function makeRaw(fd: number, announce: (before: string, raw: string) => void): Disposable {
  const before = new Uint8Array(TERMIOS_SIZE)
  check('tcgetattr', libcTcgetattr(fd, before))
  const raw = before.slice()
  libcCfmakeraw(raw)
  announce(inWords(before), inWords(raw))
  check('tcsetattr', libcTcsetattr(fd, TCSADRAIN, raw))
  return {
    [Symbol.dispose]() {
      libcTcsetattr(fd, TCSADRAIN, before) // The result is ignored, since the terminal may be gone.
    },
  }
}
