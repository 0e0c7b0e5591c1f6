import { render } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { DaemonView } from './daemon-view.tsx'
import { DetailView } from './detail-view.tsx'
import { HistoryView } from './history-view.tsx'
import { ListView } from './list-view.tsx'

const VIEWS = [
  ['#/', 'Containers'],
  ['#/history', 'History'],
  ['#/daemon', 'Daemon'],
] as const

function View({ at }: { readonly at: string }) {
  const [, serial] = /^#\/containers\/(\d+)$/.exec(at) ?? []
  if (serial !== undefined) return <DetailView key={serial} serial={serial} />
  if (at === '#/history') return <HistoryView />
  if (at === '#/daemon') return <DaemonView />
  return <ListView />
}

function Page() {
  const [at, setAt] = useState(location.hash)
  const main = useRef<HTMLElement>(null)
  useEffect(() => {
    const move = (): void => {
      setAt(location.hash)
      main.current?.focus()
    }
    addEventListener('hashchange', move)
    return () => removeEventListener('hashchange', move)
  }, [])
  const here = VIEWS.find(([hash]) => hash === at)?.[0] ?? (at.startsWith('#/containers/') ? '' : '#/')
  return (
    <>
      <button type="button" class="skip" onClick={() => main.current?.focus()}>
        Skip to the content
      </button>
      <header>
        <strong>Intercede</strong>
        <nav aria-label="Views">
          {VIEWS.map(([hash, name]) => (
            <a key={hash} href={hash} aria-current={hash === here ? 'page' : undefined}>
              {name}
            </a>
          ))}
        </nav>
      </header>
      <main ref={main} id="main" tabIndex={-1}>
        <View at={at} />
      </main>
    </>
  )
}

render(<Page />, document.getElementById('page')!)
