import { mkdirSync, readFileSync } from 'node:fs'

/** Where the copy lies, in the mount namespace of the process alone. */
const PLACE = '/run/intercede/loader'
const LOADER = /\/\S*\/ld-(linux|musl)\S*$/m

/** $2 is copied to a tmpfs on $1, and mounted on itself from there. A tmpfs, since /run may be mounted with noexec. */
const HIDE = [
  'mount -t tmpfs -o mode=0755,size=4m intercede "$1" && cp -L -- "$2" "$1/loader" && chmod 0711 "$1/loader" &&',
  'mount --bind "$1/loader" "$2" && shift 2 && exec "$@"',
].join(' ')

/**
 * Put before a program that is started as a process of a container's user namespace. To the kernel that belongs to the
 * container's root, who with CAP_SYS_PTRACE and a sight of the host's procfs could follow its links into the host's root
 * directory and write to its memory; unless it executes what it may not read, then only who may trace everybody can. As read
 * counts the loader of the program too: it sees a copy of that which everybody may execute only. Mounts that the host takes
 * away go away there too.
 *
 * @returns empty for the daemon of a user, which may not make the place
 * @see linux/fs/exec.c would_dump(), linux/fs/binfmt_elf.c load_elf_binary()
 */
export function unseen(): readonly string[] {
  const [loader] = LOADER.exec(readFileSync('/proc/self/maps', 'latin1')) ?? []
  if (loader === undefined) throw new Error('Cannot start a walker: the loader of our own program is not known')
  try {
    mkdirSync(PLACE, { recursive: true, mode: 0o755 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return []
    throw error
  }
  return ['unshare', '--mount', '--propagation', 'slave', 'sh', '-c', HIDE, 'sh', PLACE, loader]
}
