import { spawnSync } from 'node:child_process'

/** What a program says. That it fails is no matter: what it looks at may go away. */
export function lines(program: string, args: readonly string[]): string[] {
  const { stdout, error } = spawnSync(program, args, { encoding: 'latin1', maxBuffer: 256 * 1024 * 1024 })
  if (error) throw error
  return stdout.split('\n').filter((line) => line !== '')
}
