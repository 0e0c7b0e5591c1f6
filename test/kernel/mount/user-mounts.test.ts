import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { OPEN_TO_ALL } from '../../../src/policy/host-file-systems.ts'

const MOUNT = new URL('../../../out/kernel/mount.js', import.meta.url).href
/** What the kernel lets nobody mount from outside, SB_NOUSER, is EINVAL to all. */
const TRY = `
  import { mount } from ${JSON.stringify(MOUNT)}
  const isOpen = (type) => {
    try {
      mount(type, '/mnt', 0)
      return true
    } catch ({ name }) {
      if (name !== 'SyscallError') throw new Error(name)
      return false
    }
  }
  process.stdout.write(process.argv.slice(1).filter(isOpen).join(' '))`

test('every file system that the kernel here mounts for root of a user namespace is left to it', () => {
  const types = [...readFileSync('/proc/filesystems', 'latin1').matchAll(/^nodev\t(\S+)$/gm)].map(([, type]) => type!)
  const namespaces = ['--map-root-user', '--mount', '--ipc', '--net', '--pid', '--cgroup', '--fork']
  const node = [process.execPath, '--input-type=module', '-e', TRY, ...types]
  const open = execFileSync('unshare', [...namespaces, ...node], { encoding: 'utf8' }).split(' ')
  expect(open).toEqual(expect.arrayContaining(['tmpfs', 'ramfs', 'mqueue']))
  expect(open.filter((type) => !OPEN_TO_ALL.has(type))).toEqual([])
})
