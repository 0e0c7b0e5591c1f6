import { runtimes } from '../runtimes/known/index.ts'

/**
 * No runtime knows this option. A shell goes on when what stands in `$(...)` fails: without a word of ours, podman
 * would start a container that has none of the options that were asked for.
 */
const REFUSED = '--intercede-flags-failed\n'

/**
 * Returns what `intercede flags` prints when it fails: nothing where its output is lines of a file, which would be
 * broken by them.
 */
export function failedFlags(args: readonly string[]): string {
  const asked = runtimes.find(({ name, instructions }) => instructions && args.includes(name))
  return asked?.instructions?.prints === 'lines' ? '' : REFUSED
}
