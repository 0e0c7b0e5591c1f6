import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../fixtures.ts'
import { makeImage } from './image.ts'
import { run, sh, unable } from './run-machine.ts'

const cannot = unable() ?? missing('podman', 'crun', 'busybox', 'mknod')
const KEYS = ['mknod', 'setxattr'].flatMap((key) => ['-c', key])

let folder: string
beforeAll(() => {
  if (cannot) return
  folder = mkdtempSync(join(tmpdir(), 'intercede-nested-'))
  chmodSync(folder, 0o755)
  makeImage(folder, 'localhost/nested:latest', layers())
})
afterAll(() => folder && rmSync(folder, { recursive: true }))

/** A root file system; then a file that goes and a directory that is replaced; then device nodes, as old images have. */
function layers(): readonly string[] {
  const [root, changes, nodes] = ['root', 'changes', 'nodes'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  for (const name of ['bin', 'dir', 'dev', 'proc', 'sys', 'tmp']) mkdirSync(join(root, name), { recursive: true })
  copyFileSync('/bin/busybox', join(root, 'bin/busybox'))
  for (const name of ['sh', 'ls', 'stat', 'echo']) symlinkSync('busybox', join(root, 'bin', name))
  for (const name of ['gone', 'dir/old']) writeFileSync(join(root, name), '')
  mkdirSync(join(changes, 'dir'), { recursive: true })
  for (const name of ['.wh.gone', 'dir/.wh..wh..opq', 'dir/new']) writeFileSync(join(changes, name), '')
  mkdirSync(join(nodes, 'dev'), { recursive: true })
  execFileSync('mknod', ['-m', '600', join(nodes, 'dev/console'), 'c', '5', '1'])
  execFileSync('mknod', ['-m', '666', join(nodes, 'dev/mine'), 'c', '1', '3'])
  return [root, changes, nodes]
}

const inside = (script: string): string => {
  const { stdout, stderr } = run([...KEYS, '--bind', folder, ...sh(`set -e; ${script}`)])
  expect(stderr).not.toMatch(/Error|denied/)
  return stdout
}

describe.skipIf(cannot)(`an engine in a container${cannot ? `: ${cannot}` : ''}`, () => {
  test.each(['overlay', 'vfs'])(
    'podman with %s unpacks whiteouts, opaque directories and device nodes, and runs',
    (driver) => {
      const podman = `podman --root /root/store --runroot /root/run --storage-driver ${driver} --runtime crun --cgroup-manager cgroupfs`
      const script = `${podman} load -q -i ${folder}/image.tar >&2
      ${podman} run --rm --cgroups=disabled --network=host localhost/nested sh -c 'ls /dir; ls / | busybox grep gone || echo whited out'`
      expect(inside(script)).toBe('new\nwhited out\n')
    },
  )

  test('tar unpacks the nodes of a layer as working devices, and crun runs what it has unpacked', () => {
    const config = {
      ociVersion: '1.0.2',
      process: {
        user: { uid: 0, gid: 0 },
        cwd: '/',
        args: ['sh', '-c', 'echo x >/dev/mine && stat -c "%F %t:%T" /dev/mine'],
        env: ['PATH=/bin'],
      },
      root: { path: '/root/unpacked' },
      mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
      linux: { namespaces: ['pid', 'mount', 'ipc', 'uts'].map((type) => ({ type })) },
    }
    writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
    const script = `mkdir /root/unpacked /root/bundle
      for n in 0 1 2; do tar -C /root/unpacked -xpf ${folder}/layer-$n.tar; done
      stat -c '%n %F %t:%T %a %u' /root/unpacked/dev/*
      cp ${folder}/config.json /root/bundle
      crun --cgroup-manager disabled run --bundle /root/bundle inner`
    expect(inside(script).split('\n')).toEqual([
      '/root/unpacked/dev/console character special file 5:1 600 0',
      '/root/unpacked/dev/mine character special file 1:3 666 0',
      'character special file 1:3',
      '',
    ])
  })

  test('without the keys tar fails at the first node', () => {
    const { status, stderr } = run(['--bind', folder, ...sh(`tar -C /root -xpf ${folder}/layer-2.tar`)])
    expect(status).toBe(2)
    expect(stderr).toMatch(/dev\/console: Cannot mknod: Operation not permitted/)
  })
})
