// Takes from the sources what an older kernel lacks: for the tests with INTERCEDE_LACKS=5.15, and for old-kernels.test.ts.

import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { KernelFeature } from '../../src/kernel/probe.ts'
import { type Patch, rewrite } from './patched-build.ts'

/**
 * Of each feature: the first Linux that has it, and changes of modules. By them the kernel is asked for what none has, and
 * answers as an older one.
 */
const FEATURES: Readonly<
  Record<
    Exclude<KernelFeature, 'overlay' | 'fileComparison'> | 'memfdNoexec' | 'peerPidfd' | 'procmapQuery',
    readonly [since: string, ...changes: Patch[]]
  >
> = {
  userNotification: ['5.0', ['abi/seccomp', 'RET_USER_NOTIF = 0x7fc00000', 'RET_USER_NOTIF = 0x7fc10000']],
  resolveCached: ['5.12', ['abi/fcntl', 'RESOLVE_CACHED = 0x20', 'RESOLVE_CACHED = 0x40000000']],
  mountSetattr: [
    '5.12',
    ['kernel/probe', 'numbers.mount_setattr', '99_999'],
    ['kernel/mount', 'syscallMountSetattr(mount_setattr', 'syscallMountSetattr(99_999'],
  ],
  addfdSend: ['5.14', ['abi/seccomp', 'ADDFD_FLAG_SEND = 2', 'ADDFD_FLAG_SEND = 1 << 30']],
  waitKillableRecv: ['5.19', ['abi/seccomp', 'WAIT_KILLABLE_RECV = 1 << 5', 'WAIT_KILLABLE_RECV = 1 << 30']],
  memfdNoexec: ['6.3', ['abi/system', 'MFD_NOEXEC_SEAL = 8', 'MFD_NOEXEC_SEAL = 1 << 20']],
  peerPidfd: ['6.5', ['abi/socket', 'SO_PEERPIDFD = 77', 'SO_PEERPIDFD = 30077']],
  syncWakeUp: ['6.6', ['abi/seccomp', 'NOTIF_SET_FLAGS = _IOW(MAGIC, 4', 'NOTIF_SET_FLAGS = _IOW(MAGIC, 99']],
  uniqueMountIds: ['6.8', ['abi/stat', 'MNT_ID_UNIQUE = 0x4000', 'MNT_ID_UNIQUE = 0x40000000']],
  bpfTokens: [
    '6.9',
    ['kernel/probe', "cstring('delegate_cmds')", "cstring('no_option')"],
    ['mounter/mount-worker', "cstring('delegate_cmds')", "cstring('no_option')"],
  ],
  pidTranslation: [
    '6.11',
    ['abi/process', 'GET_PID_FROM_PIDNS = _IOR(NSIO, 0x6', 'GET_PID_FROM_PIDNS = _IOR(NSIO, 0x66'],
    ['abi/process', 'GET_PID_IN_PIDNS = _IOR(NSIO, 0x8', 'GET_PID_IN_PIDNS = _IOR(NSIO, 0x68'],
  ],
  procmapQuery: ['6.11', ['abi/system', '_IOWR(0x66, 17,', '_IOWR(0x66, 99,']],
  copyDetached: [
    '6.15',
    ['kernel/mount', 'OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW', 'OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW | 0x40000000'],
  ],
}

type Feature = keyof typeof FEATURES

const orderOf = (version: string): number => {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return 1000 * major + minor
}

/** The features that this Linux lacks. */
const lackedBy = (version: string): readonly Feature[] =>
  (Object.keys(FEATURES) as Feature[]).filter((name) => orderOf(FEATURES[name][0]) > orderOf(version))

/** What `PatchedBuild` takes. */
export type Changes = [file: string, from: string, to: string, ...more: Patch[]]

const changesOf = (features: readonly Feature[], ending: string): readonly Patch[] =>
  features.flatMap((name) =>
    (FEATURES[name].slice(1) as Patch[]).map(([module, from, to]): Patch => [`${module}.${ending}`, from, to]),
  )

/** How to take features from a build. */
export function without(...features: readonly Feature[]): Changes {
  const [first, ...more] = changesOf(features, 'js')
  return [...first!, ...more]
}

/** How to take all from a build that this Linux lacks. */
export const asOn = (version: string): Changes => without(...lackedBy(version))

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const PARTS = ['bench', 'bin', 'deploy', 'dist', 'docs', 'examples', 'out', 'scripts', 'src', 'test', 'README.md']

/**
 * A copy of the checkout, built, without the features that this Linux lacks; it is removed when this process ends. It is
 * no part of the checkout, for everybody must be able to read it.
 *
 * @returns its path
 */
export function olderCheckout(version: string): string {
  const copy = mkdtempSync('/var/tmp/intercede-older-')
  process.once('exit', () => rmSync(copy, { recursive: true, force: true }))
  chmodSync(copy, 0o755)
  for (const part of [...PARTS, 'package.json', 'tsconfig.json', 'tsconfig.build.json'])
    cpSync(join(ROOT, part), join(copy, part), { recursive: true, preserveTimestamps: true })
  // Its cache is its own.
  mkdirSync(join(copy, 'node_modules'))
  for (const name of readdirSync(join(ROOT, 'node_modules')))
    if (name !== '.cache') symlinkSync(join(ROOT, 'node_modules', name), join(copy, 'node_modules', name))
  for (const [file, from, to] of changesOf(lackedBy(version), 'ts')) rewrite(join(copy, 'src', file), from, to)
  const { status } = spawnSync('npm', ['run', '--silent', 'build'], { cwd: copy, stdio: ['ignore', 2, 2] })
  if (status !== 0) throw new Error(`Cannot build ${copy}: npm run build ended with ${status}`)
  return copy
}
