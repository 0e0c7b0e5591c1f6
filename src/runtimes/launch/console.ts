import type { Fd } from '../../kernel/fd.ts'
import type { Handle } from '../../kernel/handle.ts'
import { accept, listenUnix, receive } from '../../kernel/socket.ts'
import type { IdRange } from './ids-record.ts'
import type { KeyWatch } from './keys.ts'
import { layout } from './layout.ts'
import { pollUntil } from './poll-until.ts'
import { followSize, relayRaw } from './raw-relay.ts'
import type { StartWords } from './start-words.ts'
import { pipes, type Stdio } from './stdio.ts'

/** Receives the master of the container's terminal from the runtime; undefined if the runtime failed before. */
async function receiveMaster(listening: Handle, ended: () => boolean): Promise<Fd | undefined> {
  using connection = await pollUntil(() => accept(listening), ended)
  if (!connection) return undefined
  const message = await pollUntil(() => receive(connection, new Uint8Array(4096)), ended)
  const [master, ...more] = message?.fds ?? []
  for (const fd of more) fd[Symbol.dispose]()
  return master
}

/**
 * Makes stdio with the container's own terminal, which the runtime sends us: crun's own copying ends with the
 * container and loses what a slow reader has not read yet. The runtime itself gets pipes for its messages.
 */
export function consoleTerminal(ids: IdRange, watch: KeyWatch, words: StartWords): Stdio {
  const own = pipes(ids, words)
  const listening = listenUnix(layout.console)
  return {
    ends: own.ends,
    args: ['--console-socket', layout.console],
    async relay(ended) {
      const messages = own.relay(ended, { stdin: false })
      using master = await receiveMaster(listening, ended)
      if (master) {
        using _following = followSize(master)
        await relayRaw(master, watch, words)
      }
      return await messages
    },
    [Symbol.dispose]() {
      listening[Symbol.dispose]()
      own[Symbol.dispose]()
    },
  }
}
