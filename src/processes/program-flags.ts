/**
 * To be imported first by every program of ours. SIGUSR1 makes Node open its inspector on a port of this host, on which
 * every local user could run code in the process. A listener takes that meaning from the signal. The walker, which
 * stands in the user namespace of its container, can be sent signals by tasks of that container.
 */
process.on('SIGUSR1', () => {})

/**
 * The option of Node for the moment before the listener: no socket can listen on a multicast address, bind(2) fails
 * with EINVAL.
 */
export const NO_INSPECTOR = '--inspect-port=[ff02::1]:65535'

/** The programs of ours that are started, beside the command line. */
export type Program = 'engine' | 'mounter' | 'walker'

/** One thread of V8's own, instead of four, for what it compiles and collects beside the others. */
const ONE_HELPER = '--v8-pool-size=1'

/**
 * The options of Node for each program. With an option of V8, in Node 20 with nearly any, V8 refuses the code that Node
 * brings along of its own modules, and compiles them: 8 ms more for a process, 15 ms more for each thread. So only
 * those programs have an option whose new objects shall take little memory, in MiB; a larger space has longer pauses,
 * too.
 * The threads of the engine have a limit of their own (engine/pool/threads.ts).
 */
const FLAGS: Readonly<Record<Program, readonly string[]>> = {
  engine: [NO_INSPECTOR, ONE_HELPER],
  mounter: [NO_INSPECTOR, ONE_HELPER, '--max-semi-space-size=1'],
  walker: [NO_INSPECTOR, ONE_HELPER, '--max-semi-space-size=1'],
}

export const flagsFor = (program: Program): readonly string[] => FLAGS[program]
