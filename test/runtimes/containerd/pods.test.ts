import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CriContainerd, containerds, HANDLERS, SECCOMP } from '../../support/cri.ts'
import { Machine } from '../../support/machine.ts'
import { withReason } from '../../support/skipped.ts'

/** A node that works and can be removed, one that is refused, and what RuntimeDefault refuses. */
const SCRIPT = `mknod /tmp/n c 1 3 && echo x >/tmp/n && stat -c "%F %t:%T" /tmp/n && rm /tmp/n
mknod /tmp/m c 1 1 || unshare -U true`
const SERVED = {
  stdout: 'character special file 1:3\n',
  stderr: expect.stringMatching(/mknod: \/tmp\/m: Operation not permitted\nunshare: .*Operation not permitted/),
}

for (const containerd of containerds) {
  const { name, why } = containerd
  describe.skipIf(why)(withReason(`a Pod of ${name} with a file of the DaemonSet`, why), () => {
    let machine: Machine
    let cri: CriContainerd
    let file = ''
    beforeAll(async () => {
      machine = new Machine()
      cri = await CriContainerd.start(machine, containerd)
      await machine.serve()
      // As deploy/kubernetes/configure.sh does.
      const words = ['-c', 'mknod', '--name', 'mknod', '--base', 'containerd', '--listener', machine.socket]
      const intercede = [process.execPath, machine.program] as const
      const made = await machine.run(...intercede, 'flags', 'kubernetes', ...words, '--write', machine.directory)
      expect(made).toMatchObject({ status: 0 })
      file = join(machine.directory, 'mknod.json')
    }, 60_000)
    afterAll(async () => {
      await cri?.close()
      await machine.close()
    })

    test.each(HANDLERS)('is served by %s, also what is executed, over a restart of containerd', async (handler) => {
      await cri.within({ namespace: 'apps', handler }, { file }, async (container) => {
        expect(await cri.exec(container, 'sh', '-c', SCRIPT)).toMatchObject(SERVED)
        await cri.restart()
        expect(await cri.exec(container, 'sh', '-c', SCRIPT)).toMatchObject(SERVED)
      })
      // The same Pod without the file.
      const refused = { stdout: '', stderr: expect.stringContaining('mknod: /tmp/n: Operation not permitted') }
      await cri.within({ namespace: 'apps', handler }, SECCOMP.runtimeDefault, async (container) => {
        expect(await cri.exec(container, 'sh', '-c', SCRIPT)).toMatchObject(refused)
      })
    })
  })
}
