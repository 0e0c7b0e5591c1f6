import { InvalidArgumentError } from 'commander'
import { type Cap, capabilities } from '../abi/capability.ts'

/** Reads the name of a capability, with or without `CAP_`, and collects it. */
export function parseCap(text: string, earlier: readonly Cap[] = []): readonly Cap[] {
  const cap = capabilities.find((name) => name === text.toUpperCase().replace(/^CAP_/, ''))
  if (cap === undefined) throw new InvalidArgumentError('It must be a capability of Linux such as MKNOD or SYS_ADMIN.')
  return [...earlier, cap]
}
