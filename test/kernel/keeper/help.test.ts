import { describe, expect, test } from 'vitest'
import { execute } from '../../support/host.ts'
import { CLI } from '../../support/machine.ts'
import { COMMANDS, flaws, pageOf } from '../../support/promises.ts'
import { sentencesOfHelp } from '../../support/sentences.ts'

describe('each sentence of a help text has a test that keeps it, or a reason why none does', () => {
  test.each(COMMANDS)('intercede %s --help', async (command) => {
    const { status, stdout } = await execute(process.execPath, [CLI, ...(command ? [command] : []), '--help'])
    expect(status).toBe(0)
    const page = pageOf(`intercede ${command} --help`, sentencesOfHelp(stdout), `help/${command || 'intercede'}`)
    expect(flaws(page)).toEqual([])
  })
})
