import { expect, test } from 'vitest'
import { execute } from '../../support/host.ts'

const dist = (file: string): string => new URL(`../../../out/kernel/${file}`, import.meta.url).href

/**
 * Becomes a shell that tells which descriptors it has, or says why not. The shell starts ls(1) without a pipe: while it
 * makes a pipe, it holds both ends itself, and ls would list them now and then.
 */
const script = (program: string): string => `
  import { readdirSync } from 'node:fs'
  import { memfd } from '${dist('shared-memory.js')}'
  import { execv } from '${dist('exec.js')}'
  const [passed, kept] = [memfd('passed', 1), memfd('kept', 1)]
  process.env.LEFT = passed.raw
  process.on('SIGHUP', () => { console.log('SIGHUP'); process.exit() })
  try {
    execv('${program}', ['-c', 'echo $PPID $$ $0; test -e /proc/$$/fd/$LEFT && ls -v /proc/$$/fd; kill -HUP $$; echo ignored'], [passed])
  } catch (error) {
    console.log(error.message)
    setInterval(() => {}, 1000)
    process.kill(process.pid, 'SIGHUP')
  }`

const run = (program: string) => execute(process.execPath, ['--input-type=module', '-e', script(program)])

test('execv() becomes the program, with these descriptors and no others, and SIGHUP does not end it', async () => {
  const { stdout } = await run('/bin/sh')
  // Standard streams, and the one that was passed.
  expect(stdout).toMatch(new RegExp(`^${process.pid} \\d+ /bin/sh\n0\n1\n2\n\\d+\nignored\n$`))
})

test('execv() that fails leaves everything as it was', async () => {
  expect((await run('/nowhere')).stdout).toMatch(/^execve: ENOENT.*\nSIGHUP\n$/)
})
