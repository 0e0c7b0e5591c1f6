import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { missing } from '../../support/fixtures.ts'
import { makeImage } from '../../support/image.ts'
import { must } from '../../support/images.ts'
import { hasRuntime, run, sh, unable } from '../../support/run-machine.ts'
import { withReason } from '../../support/skipped.ts'

const why = unable() ?? missing('podman', 'busybox') ?? (hasRuntime('crun') ? undefined : 'no crun')
const scratch = mkdtempSync(join(tmpdir(), 'intercede-image-'))
afterAll(() => rmSync(scratch, { recursive: true }))

/** Two layers: the upper one has a device node, takes away a file, and hides what the lower one has in a directory. */
const LAYERS = `set -e; chmod 755 .; umask 022
mkdir -p lower/bin lower/opaque upper/dev upper/opaque
cp /bin/busybox lower/bin/; for name in sh ls stat rm mkdir cat; do ln -s busybox lower/bin/$name; done
echo lower >lower/gone; echo lower >lower/opaque/lower; echo lower >lower/stays
touch upper/.wh.gone upper/opaque/.wh..wh..opq; echo upper >upper/opaque/upper
mknod -m 600 upper/dev/console c 5 1`

beforeAll(() => {
  if (why) return
  must('sh', ['-c', `cd ${scratch}; ${LAYERS}`])
  makeImage(scratch, 'localhost/inner:latest', [join(scratch, 'lower'), join(scratch, 'upper')])
})

const inside = (keys: readonly string[], script: string) => {
  const flags = keys.flatMap((key) => ['-c', key])
  const { stdout, stderr, status } = run([...flags, '--bind', `${scratch}:/images:ro`, ...sh(script)])
  return { stdout: stdout.trim().split('\n'), stderr, status }
}

const PODMAN = `podman() { command podman --root /root/store --runroot /root/run --storage-driver overlay --runtime crun --cgroup-manager cgroupfs "$@"; }
nested() { podman run --rm --cgroups=disabled --network=host "$@" </dev/zero; }`
const CONTAINERFILE = `FROM localhost/inner
RUN rm /stays && rm -r /opaque && mkdir /opaque && echo built >/opaque/built`
const LOOK = 'echo /*s /gon[e] /opaque/*; cat /opaque/*'

/** The bundle of a container that looks at its /dev as the image has it. */
const spec = {
  ociVersion: '1.0.2',
  process: {
    user: { uid: 0, gid: 0 },
    args: ['sh', '-c', `${LOOK}; stat -c '%F %t:%T %a' /dev/console`],
    env: ['PATH=/bin'],
    cwd: '/',
  },
  root: { path: 'rootfs' },
  mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
  linux: { namespaces: ['pid', 'mount', 'ipc', 'uts'].map((type) => ({ type })) },
}

describe.skipIf(why)(withReason('an image with whiteouts, an opaque directory and a device node', why), () => {
  test('podman in a container runs it, and builds another one of it', () => {
    const { stdout, stderr } = inside(
      ['mknod', 'setxattr'],
      `${PODMAN}
podman load --quiet --input /images/image.tar >&2
nested localhost/inner sh -c '${LOOK}'
echo '${CONTAINERFILE}' >Containerfile
podman build --quiet --isolation chroot --network host --tag localhost/built . >&2
nested localhost/built sh -c '${LOOK}'`,
    )
    expect(stdout, stderr).toEqual([
      ...['/stays /sys /gon[e] /opaque/upper', 'upper'],
      ...['/sys /gon[e] /opaque/built', 'built'],
    ])
  })

  const unpack = `mkdir rootfs; tar -C rootfs -xpf /images/layer-0.tar; rm rootfs/gone rootfs/opaque/*
tar -C rootfs -xpf /images/layer-1.tar 2>said; echo "tar $?"; find rootfs -name '.wh.*' -delete
echo '${JSON.stringify(spec)}' >config.json`.replaceAll("'%F %t:%T %a'", String.raw`'\''%F %t:%T %a'\''`)
  test('crun in a container runs it as it is unpacked, with its node', () => {
    const { stdout, stderr } = inside(['mknod'], `${unpack}; crun --cgroup-manager=disabled run image </dev/zero`)
    expect(stdout, stderr).toEqual([
      'tar 0',
      ...['/stays /gon[e] /opaque/upper', 'upper'],
      'character special file 5:1 600',
    ])
  })

  test('without the key it is not unpacked', () => {
    const { stdout } = inside([], `${unpack}; cat said; ls rootfs/dev`)
    expect(stdout.slice(0, 2)).toEqual(['tar 2', 'tar: ./dev/console: Cannot mknod: Operation not permitted'])
  })
})
