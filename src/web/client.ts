import { useEffect, useRef, useState } from 'preact/hooks'

/** `ended` and `daemon` may pass; after `refused` and `stranger` nothing is asked any more. */
type TroubleKind = 'daemon' | 'ended' | 'refused' | 'stranger'

const SAYS = {
  ended: 'The program "intercede web" does not answer. If it has ended, start it again and open the address it prints.',
  refused:
    'This address does not admit this browser. Another browser has used it, or it is of an earlier start. Start "intercede web" again and open the address it prints.',
  stranger: 'Another program answers at this address. The page asks it nothing more. Start "intercede web" again.',
}

/** Why the page has nothing new to show. */
class Trouble extends Error {
  readonly kind: TroubleKind

  /** @param says what the server said, which has proved that it is ours */
  constructor(kind: TroubleKind, says?: string) {
    super(says ?? SAYS[kind as keyof typeof SAYS])
    this.kind = kind
  }
}

/** The path is another one after each start of the server. */
const PROOF = `proof of ${location.pathname}`
let proof = sessionStorage.getItem(PROOF)
let end: Trouble | undefined

const stop = (kind: 'refused' | 'stranger'): Trouble => {
  end ??= new Trouble(kind)
  return end
}

/** Asks the server, and believes only what has its proof. @throws {Trouble} */
async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  if (end) throw end
  let response: Response
  try {
    response = await fetch(path, { ...options, redirect: 'error' })
  } catch {
    throw new Trouble('ended')
  }
  const said = response.headers.get('x-intercede-proof')
  if (response.status === 401) throw stop('refused')
  if (said === null || said !== (proof ?? said)) throw stop('stranger')
  proof = said
  sessionStorage.setItem(PROOF, said)
  if (!response.ok) throw new Trouble('daemon', ((await response.json()) as { error: string }).error)
  return response
}

/** Enters with the token of the address, which the address loses, or with the cookie of an earlier time. */
async function enter(): Promise<void> {
  const token = /^#token=([\w-]+)$/.exec(location.hash)?.[1]
  if (token !== undefined) history.replaceState(undefined, '', '#/')
  await ask('enter', { method: 'POST', headers: token === undefined ? {} : { 'x-intercede-token': token } })
}

const entered = enter()
entered.catch(() => {})

const troubleOf = (error: unknown): Trouble => (error instanceof Trouble ? error : new Trouble('ended'))
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const RETRY_MS = 2000
/**
 * So many times as long as an answer took it is waited until the next question, but no longer than this: the end of the
 * daemon must be seen soon.
 */
const [TIMES, MOST_MS] = [4, 4000]

export interface Polled<T> {
  /** The last answer. */
  readonly value: T | undefined
  readonly trouble: Trouble | undefined
  /** When it was given, and how long it is until the next, in milliseconds; 0 if there is none. */
  readonly at: number
  readonly every: number
}

/**
 * Asks again and again while the tab is seen.
 *
 * @param every at least so many milliseconds later; 0 to ask only once
 */
export function usePolled<T>(path: string, every: number): Polled<T> {
  const [state, set] = useState<Polled<T> & { readonly path: string }>()
  useEffect(() => {
    const gone = new AbortController()
    const { signal } = gone
    const run = async (): Promise<void> => {
      while (!signal.aborted) {
        const start = Date.now()
        let wait = RETRY_MS
        try {
          await entered
          const value = (await (await ask(path, { signal })).json()) as T
          wait = Math.min(MOST_MS, Math.max(every, TIMES * (Date.now() - start)))
          if (!signal.aborted) set({ path, value, trouble: undefined, at: Date.now(), every: every && wait })
          if (every === 0) return
        } catch (error) {
          const trouble = troubleOf(error)
          if (!signal.aborted) set((last) => ({ at: 0, every: 0, value: undefined, ...last, path, trouble }))
          if (end) return
        }
        do await pause(wait)
        while (document.hidden && !signal.aborted)
      }
    }
    void run()
    return () => gone.abort()
  }, [path, every])
  const known = state?.path === path ? state : undefined
  return known ?? { value: undefined, trouble: undefined, at: 0, every }
}

export interface EventRow {
  readonly time: string
  readonly type: string
  readonly container: string
  readonly name?: string
  readonly call?: string
  readonly verdict?: string
  readonly errno?: string
  readonly reason?: string
  readonly microseconds?: number
  readonly message?: string
}

/** How many events are shown, and how often new ones are. */
export const SHOWN_EVENTS = 200
const SHOW_MS = 1000

export interface Events {
  readonly rows: readonly EventRow[]
  /** How many came, and how many the server has left out. */
  readonly seen: number
  readonly lost: number
  /** Whether more may come; undefined until that is known. */
  readonly isOpen?: boolean
}

/** Follows events. They are shown once a second, the last ones only, however fast they come. */
export function useEvents(path: string): Events {
  const [state, set] = useState<Events>({ rows: [], seen: 0, lost: 0 })
  const last = useRef<Events>(state)
  useEffect(() => {
    const gone = new AbortController()
    const { signal } = gone
    const take = (event: EventRow): void => {
      const { rows, seen, lost } = last.current
      const [, count = 0] = event.type === 'lost' ? (/(\d+)/.exec(event.message ?? '') ?? []) : []
      const shown = [event, ...rows].slice(0, SHOWN_EVENTS)
      last.current = { rows: shown, seen: seen + 1, lost: lost + Number(count), isOpen: true }
    }
    const run = async (): Promise<void> => {
      while (!signal.aborted && !end) {
        try {
          await entered
          const response = await ask(path, { signal })
          last.current = { rows: [], seen: 0, lost: 0, isOpen: true }
          await eachLine(response, (line) => take(JSON.parse(line) as EventRow))
        } catch {
          // Another question tells why.
        }
        last.current = { ...last.current, isOpen: false }
        await pause(RETRY_MS)
      }
    }
    void run()
    const timer = setInterval(() => set(last.current), SHOW_MS)
    return () => {
      gone.abort()
      clearInterval(timer)
    }
  }, [path])
  return state
}

async function eachLine(response: Response, take: (line: string) => void): Promise<void> {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const lines = (rest + value).split('\n')
    rest = lines.pop()!
    for (const line of lines) take(line)
  }
}
